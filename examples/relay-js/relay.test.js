import assert from "node:assert/strict";
import test from "node:test";
import { message, run } from "sandhog/testing";
import relay from "./relay.js";

const config = { webhook: "https://shop.example/events", token: "s3cret" };
const event = message({ json: { id: "e1", type: "order.paid" } });
const answering = (status, headers = {}) => ({ config, keyvalue: {}, http: () => new Response(null, { status, headers }) });

test("an_event_is_posted_with_a_key_and_remembered", async () => {
    const { verdict, requests, keyvalue } = await run(relay, event, answering(204));
    assert.equal(verdict, "success");
    assert.ok(keyvalue.exists("e1"));
    assert.equal(keyvalue.getText("delivered order.paid"), "1");
    assert.equal(requests[0].headers.get("idempotency-key"), "e1");
    assert.equal(requests[0].headers.get("authorization"), "Bearer s3cret");
});

test("a_busy_subscriber_is_asked_again_when_it_says", async () => {
    const { verdict, seconds } = await run(relay, event, answering(429, { "retry-after": "7" }));
    assert.deepEqual([verdict, seconds], ["retry-after", 7]);
});

test("a_subscriber_that_is_down_is_asked_again", async () => {
    const { verdict, reason } = await run(relay, event, answering(503));
    assert.deepEqual([verdict, reason], ["retry", "the webhook answers 503"]);
});

test("an_event_that_the_subscriber_refuses_is_a_dead_letter", async () => {
    const { verdict, reason } = await run(relay, event, answering(410));
    assert.deepEqual([verdict, reason], ["reject", "the webhook answers 410"]);
});

test("an_event_whose_subscriber_has_moved_is_a_dead_letter_and_not_lost", async () => {
    const moved = ({ method }) => new Response(null, method === "POST" ? { status: 302, headers: { location: "/login" } } : {});
    const { verdict, reason, requests } = await run(relay, event, { ...answering(302), http: moved });
    assert.deepEqual([verdict, reason, requests.length], ["reject", "the webhook answers 302", 1]);
});

test("an_event_that_was_delivered_is_not_posted_again", async () => {
    const { verdict, requests } = await run(relay, event, { ...answering(204), keyvalue: { e1: "yesterday" } });
    assert.deepEqual([verdict, requests.length], ["success", 0]);
});
