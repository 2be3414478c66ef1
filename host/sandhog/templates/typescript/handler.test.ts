import assert from "node:assert/strict";
import test from "node:test";
import { decimal } from "sandhog";
import { message, run } from "sandhog/testing";
import handle from "./handler.js";

test("an order is totalled", async () => {
    const items = [
        { price: 12.5, quantity: 2 },
        { price: 3, quantity: 1 },
    ];
    const { verdict, sent, logs } = await run(handle, message({ json: { id: 7, items } }));
    assert.equal(verdict, "success");
    assert.equal(sent.length, 1);
    assert.equal(sent[0]?.queue, "totals");
    assert.deepEqual(sent[0]?.json(), { id: 7, total: 28 });
    assert.deepEqual(sent[0]?.attributes.get("items"), decimal(2));
    assert.deepEqual(logs, [{ level: "info", text: "order 7: 2 items, 28 in total" }]);
});

test("what is not JSON is rejected", async () => {
    const { verdict, reason, sent } = await run(handle, message("seven spades"));
    assert.equal(verdict, "reject");
    assert.match(reason ?? "", /not JSON/);
    assert.deepEqual(sent, []);
});

test("an item without a price is rejected", async () => {
    const { verdict, reason } = await run(handle, message({ json: { id: 7, items: [{ quantity: 1 }] } }));
    assert.deepEqual([verdict, reason], ["reject", "order 7 has an item without a price or a quantity"]);
});
