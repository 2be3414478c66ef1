import assert from "node:assert/strict";
import test from "node:test";
import { pieces } from "./fake-wasi.js";

const { begin, end } = await import("../src/guest/attempt.js");
const { runUntil } = await import("../src/guest/loop.js");
const { transport } = await import("../src/guest/transport.js");

const late = new DOMException("The operation was aborted due to timeout", "TimeoutError");
const isLate = (error) => error === late;

/** Sends a request, in an attempt of its own. */
function started(t) {
    begin();
    t.after(end);
    const exchange = transport({ method: "GET", url: new URL("http://api.test/"), headers: new Headers(), body: undefined });
    return { exchange, answer: exchange.answer() };
}

/** Lets the host say once that what is waited for is ready. */
function ready() {
    let rounds = 0;
    runUntil(() => rounds++ > 0);
}

test("a_signal_that_ends_a_response_between_two_reads_is_what_the_next_read_fails_for", async (t) => {
    const { exchange, answer } = started(t);
    ready();
    const { read } = await answer;
    pieces.push(new Uint8Array([1]), new Uint8Array([2]));
    assert.deepEqual(await read(), new Uint8Array([1]));
    exchange.drop(late);
    await assert.rejects(read(), isLate);
    await assert.rejects(read(), isLate);
});

test("a_signal_that_ends_a_request_just_as_its_answer_comes_is_what_it_fails_for", async (t) => {
    const { exchange, answer } = started(t);
    ready();
    exchange.drop(late);
    await assert.rejects(answer, isLate);
});

test("a_signal_that_ends_a_response_just_as_a_piece_comes_is_what_the_read_fails_for", async (t) => {
    const { exchange, answer } = started(t);
    ready();
    const { read } = await answer;
    pieces.length = 0;
    const waiting = read();
    ready();
    exchange.drop(late);
    await assert.rejects(waiting, isLate);
});
