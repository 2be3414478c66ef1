import assert from "node:assert/strict";
import test from "node:test";
import { decimal } from "sandhog";
import { message, run } from "sandhog/testing";
import handle from "./handler.js";

{{with any}}
// What the manifest grants.
const granted = {
{{end}}
{{with http}}
    http: () => new Response(null, { status: 201 }),
{{end}}
{{with keyvalue}}
    keyvalue: {},
{{end}}
{{with http config}}
    config: { api: "https://api.example.com", token: "secret" },
{{end}}
{{with config without http}}
    config: { currency: "EUR" },
{{end}}
{{with any}}
};
const order = message({ json: { id: 7, items: [{ price: 12.5, quantity: 2 }] } });

{{end}}
test("an order is totalled", async () => {
    const items = [
        { price: 12.5, quantity: 2 },
        { price: 3, quantity: 1 },
    ];
{{without any}}
    const { verdict, sent, logs } = await run(handle, message({ json: { id: 7, items } }));
{{end}}
{{with any}}
    const { verdict, sent, logs } = await run(handle, message({ json: { id: 7, items } }), granted);
{{end}}
    assert.equal(verdict, "success");
    assert.equal(sent.length, 1);
    assert.equal(sent[0].queue, "totals");
{{without config}}
    assert.deepEqual(sent[0].json(), { id: 7, total: 28 });
{{end}}
{{with http config}}
    assert.deepEqual(sent[0].json(), { id: 7, total: 28 });
{{end}}
{{with config without http}}
    assert.deepEqual(sent[0].json(), { id: 7, total: 28, currency: "EUR" });
{{end}}
    assert.deepEqual(sent[0].attributes.get("items"), decimal(2));
    assert.deepEqual(logs, [{ level: "info", text: "order 7: 2 items, 28 in total" }]);
});

test("what is not JSON is rejected", async () => {
    const { verdict, reason, sent } = await run(handle, message("seven spades"));
    assert.equal(verdict, "reject");
    assert.match(reason, /not JSON/);
    assert.deepEqual(sent, []);
});

test("an item without a price is rejected", async () => {
    const { verdict, reason } = await run(handle, message({ json: { id: 7, items: [{ quantity: 1 }] } }));
    assert.deepEqual([verdict, reason], ["reject", "order 7 has an item without a price or a quantity"]);
});
{{with keyvalue}}

test("an order that comes twice is sent once", async () => {
    const first = await run(handle, order, granted);
    const second = await run(handle, order, { ...granted, keyvalue: first.keyvalue });
    assert.deepEqual([second.verdict, first.sent.length, second.sent.length], ["success", 1, 0]);
});
{{end}}
{{with http}}

test("a total is posted to the API", async () => {
    const { requests } = await run(handle, order, granted);
    const [{ method, url, headers, json }] = requests;
    assert.deepEqual([method, url], ["POST", "https://api.example.com/totals"]);
    assert.equal(headers.get("idempotency-key"), order.id);
    assert.deepEqual(json(), { id: 7, total: 25 });
});

test("a busy API is asked again when it says", async () => {
    const http = () => new Response(null, { status: 429, headers: { "retry-after": "7" } });
    const { verdict, seconds, sent } = await run(handle, order, { ...granted, http });
    assert.deepEqual([verdict, seconds, sent], ["retry-after", 7, []]);
});
{{end}}
{{with http config}}

test("the API gets the token", async () => {
    const { requests } = await run(handle, order, granted);
    assert.equal(requests[0].headers.get("authorization"), "Bearer secret");
});
{{end}}
{{with config without http}}

test("the currency is that of the manifest", async () => {
    const { sent } = await run(handle, order, { ...granted, config: { currency: "CHF" } });
    assert.equal(sent[0].json().currency, "CHF");
});
{{end}}
