import assert from "node:assert/strict";
import test from "node:test";
import { AbortController, AbortSignal } from "../src/guest/web/abort.js";
import { Event, EventTarget } from "../src/guest/web/event.js";

test("a_listener_hears_events_of_its_type_until_it_is_removed", () => {
    const target = new EventTarget();
    const heard = [];
    const listener = (event) => heard.push([event.type, event.target === target, event.detail]);
    target.addEventListener("paid", listener);
    target.addEventListener("paid", listener);
    target.addEventListener("paid", { handleEvent: ({ type }) => heard.push(`object ${type}`) }, { once: true });
    class Paid extends Event {
        detail = 7;
    }
    assert.equal(target.dispatchEvent(new Paid("paid")), true);
    target.dispatchEvent(new Event("other"));
    assert.deepEqual(heard, [["paid", true, 7], "object paid"]);
    target.dispatchEvent(new Event("paid"));
    target.removeEventListener("paid", listener);
    target.dispatchEvent(new Event("paid"));
    assert.deepEqual(heard.slice(2), [["paid", true, undefined]]);
});

test("a_listener_can_refuse_an_event_and_keep_it_from_the_others", () => {
    const target = new EventTarget();
    const heard = [];
    target.addEventListener("paid", (event) => event.preventDefault());
    target.addEventListener("paid", (event) => event.stopImmediatePropagation());
    target.addEventListener("paid", () => heard.push("too late"));
    const event = new Event("paid", { cancelable: true });
    assert.deepEqual([target.dispatchEvent(event), event.defaultPrevented], [false, true]);
    assert.equal(target.dispatchEvent(new Event("paid")), true);
    assert.deepEqual(heard, []);
});

test("a_signal_is_a_target_and_its_own_listener_comes_first", () => {
    const controller = new AbortController();
    const heard = [];
    controller.signal.addEventListener("abort", ({ type, target }) => heard.push(type, target === controller.signal));
    controller.signal.onabort = () => heard.push("own");
    controller.abort();
    controller.abort();
    assert.ok(controller.signal instanceof EventTarget && AbortSignal.abort() instanceof AbortSignal);
    assert.deepEqual(heard, ["own", "abort", true]);
});
