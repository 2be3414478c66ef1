import assert from "node:assert/strict";
import test from "node:test";
import { message, run } from "sandhog/testing";
import handle from "./order.js";

const order = message({ json: { id: "A7", email: "ada@example.com", items: [{ price: 12.5, quantity: 2 }] } });
const config = { api: "https://api.example.com", token: "secret" };
const answering = (answer, keyvalue = {}) => run(handle, order, { http: () => answer, keyvalue, config });

test("an_order_has_an_invoice_and_its_total_is_sent", async () => {
    const { verdict, requests, sent, keyvalue } = await answering(new Response(null, { status: 201 }));
    assert.equal(verdict, "success");
    const [{ method, url, headers, json }] = requests;
    assert.deepEqual([method, url, headers.get("authorization")], ["POST", "https://api.example.com/invoices", "Bearer secret"]);
    assert.deepEqual(json(), { order: "A7", email: "ada@example.com", total: 25 });
    assert.deepEqual([sent[0].queue, sent[0].json()], ["totals", { id: "A7", total: 25 }]);
    assert.deepEqual([keyvalue.getJson("order/A7"), keyvalue.getText("handled")], [{ total: 25 }, "1"]);
});

test("an_order_that_was_handled_is_skipped", async () => {
    const first = await answering(new Response());
    const { verdict, requests, sent } = await answering(new Response(), first.keyvalue);
    assert.deepEqual([verdict, requests, sent], ["success", [], []]);
});

test("a_busy_api_is_asked_again_when_it_says", async () => {
    const busy = async (status, headers) => {
        const { verdict, seconds, sent } = await answering(new Response(null, { status, headers }));
        return [verdict, seconds, sent.length];
    };
    assert.deepEqual(await busy(429, { "retry-after": "7" }), ["retry-after", 7, 0]);
    assert.deepEqual(await busy(503, {}), ["retry-after", 30, 0]);
});

test("another_refusal_is_a_dead_letter_and_a_fault_is_not", async () => {
    const refused = await answering(new Response("no such customer", { status: 422 }));
    assert.deepEqual([refused.verdict, refused.reason], ["reject", "the API answers 422: no such customer"]);
    assert.equal((await answering(new Response(null, { status: 500 }))).verdict, "retry");
    const moved = await answering(new Response(null, { status: 302, headers: { location: "/login" } }));
    assert.deepEqual([moved.verdict, moved.reason, moved.requests.length], ["reject", "the API answers 302: ", 1]);
});

test("a_body_that_is_no_order_is_a_dead_letter", async () => {
    for (const body of ["seven spades", "{}"]) {
        assert.equal((await run(handle, message(body), { config })).verdict, "reject");
    }
});
