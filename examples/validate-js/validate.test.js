import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { message, run } from "sandhog/testing";
import handle from "./validate.js";

const input = async (name) => run(handle, message(await readFile(new URL(`input/${name}.json`, import.meta.url))));

test("a_valid_event_goes_on_as_it_is", async () => {
    const { verdict, sent } = await input("signup");
    assert.equal(verdict, "success");
    assert.deepEqual(sent.map(({ queue, attributes }) => [queue, attributes.get("type")]), [["valid", "signup"]]);
    assert.equal(sent[0].json().email, "ada@example.com");
});

test("everything_that_is_wrong_is_said_at_once", async () => {
    const { verdict, reason, sent } = await input("mistakes");
    assert.equal(verdict, "reject");
    assert.equal(
        reason,
        '/order must be >= 1; /lines/0/article must match pattern "^[A-Z]{2}-[0-9]+$"; ' +
            "/lines/1 must have required property 'cents'",
    );
    assert.deepEqual(sent, []);
});

test("an_event_of_an_unknown_type_is_rejected", async () => {
    const { reason } = await run(handle, message({ json: { type: "refund" } }));
    assert.equal(reason, "there is no schema for events of type refund");
});

test("the_type_may_be_an_attribute", async () => {
    const { reason } = await run(handle, message({ json: {}, attributes: { type: "signup" } }));
    assert.match(reason, /^the event must have required property 'type'; /);
});
