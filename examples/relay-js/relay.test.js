import assert from "node:assert/strict";
import test from "node:test";
import { message, run } from "sandhog/testing";
import relay from "./relay.js";

const config = { webhook: "https://shop.example/events", token: "s3cret" };
const BUCKETS = ["delivered-0", "delivered-1", "delivered-2"];
const event = message({ json: { id: "e1", type: "order.paid" } });
const answering = (status, headers = {}) => ({ config, keyvalue: {}, http: () => new Response(null, { status, headers }) });

/** Runs the relay at a time, on what another run of it has left behind. */
async function ranAt(t, now, before) {
    t.mock.timers.enable({ apis: ["Date"], now: Date.parse(now) });
    const stores = Object.fromEntries(BUCKETS.map((name) => [name, before?.store(name) ?? {}]));
    const ran = await run(relay, event, { ...answering(204), stores });
    t.mock.timers.reset();
    assert.equal(ran.verdict, "success", ran.reason);
    const remembered = BUCKETS.flatMap((name) => [...ran.store(name).keys()]);
    return { ...ran, remembered };
}

test("an_event_is_posted_with_a_key_and_remembered", async (t) => {
    const { requests, keyvalue, remembered } = await ranAt(t, "2026-11-02");
    assert.deepEqual(remembered, ["e1"]);
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

test("an_event_that_was_delivered_this_month_or_last_month_is_not_posted_again", async (t) => {
    const first = await ranAt(t, "2026-12-31T23:59:59Z");
    for (const later of ["2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z", "2027-01-31T23:59:59Z"]) {
        assert.deepEqual((await ranAt(t, later, first)).requests, [], later);
    }
    assert.equal((await ranAt(t, "2027-02-01T00:00:00Z", first)).requests.length, 1);
});

test("events_of_the_month_before_last_are_forgotten_500_with_each_delivery", async (t) => {
    const november = await ranAt(t, "2026-11-30");
    const bucket = BUCKETS.map(november.store).find((store) => store.exists("e1"));
    bucket.setMany(Array.from({ length: 700 }, (_, number) => [`old ${number}`, ""]));
    assert.equal((await ranAt(t, "2026-12-31", november)).remembered.length, 701);
    assert.equal((await ranAt(t, "2027-01-01", november)).remembered.length, 701 - 500 + 1);
});
