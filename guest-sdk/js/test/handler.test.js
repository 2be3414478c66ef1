import assert from "node:assert/strict";
import test from "node:test";
import { reasonOf } from "../src/reason.js";
import { Reject, Retry, RetryAfter, SendError, decimal, log, send, sendMany } from "sandhog";
import { message, run, runBatch } from "sandhog/testing";

test("a_message_has_every_field_with_a_default", () => {
    const { id, body, attributes, queue, receiveCount, sentAt, groupId } = message();
    assert.deepEqual(
        { id, length: body.length, size: attributes.size, queue, receiveCount, sentAt: sentAt.toISOString(), groupId },
        { id: "test-message", length: 0, size: 0, queue: "test", receiveCount: 1, sentAt: "2026-01-01T00:00:00.000Z", groupId: undefined },
    );
});

test("malformed_json_is_rejected", async () => {
    const { verdict, reason } = await run((received) => received.json(), message("{"));
    assert.equal(verdict, "reject");
    assert.match(reason, /^the body is not JSON: /);
});

test("bytes_that_are_not_text_are_rejected_with_their_place", async () => {
    for (const [bytes, place] of [
        [[0x61, 0xff], 1],
        [[0xc3, 0xa4, 0xc0, 0x80], 2],
        [[0xed, 0xa0, 0x80], 0],
        [[0xf4, 0x90, 0x80, 0x80], 0],
        [[0x61, 0xe2, 0x82], 1],
    ]) {
        const { verdict, reason } = await run((received) => void received.text(), message(new Uint8Array(bytes)));
        assert.deepEqual([verdict, reason], ["reject", `the body is not text: invalid UTF-8 at byte ${place}`]);
    }
});

test("each_failure_has_its_verdict", async () => {
    const fails = async (error) => {
        const { verdict, reason, seconds } = await run(async () => { throw error; }, message());
        return { verdict, reason, seconds };
    };
    assert.deepEqual(await fails(new Retry("busy")), { verdict: "retry", reason: "busy", seconds: undefined });
    assert.deepEqual(await fails(new RetryAfter("later", 1.5)), { verdict: "retry-after", reason: "later", seconds: 2 });
    assert.deepEqual(await fails(new RetryAfter("later", 1e9)), { verdict: "retry-after", reason: "later", seconds: 43_200 });
    assert.deepEqual(await fails(new Reject("no", { cause: new Error("really") })), {
        verdict: "reject",
        reason: "no: really",
        seconds: undefined,
    });
    assert.equal((await fails(new Error("oops"))).verdict, "crash");
});

test("a_failure_that_is_returned_does_not_pass_as_success", async () => {
    assert.equal((await run(() => new Reject("no"), message())).verdict, "reject");
});

test("every_option_of_a_send_is_kept", async () => {
    const { sent } = await run(() => {
        send("out", {
            json: { a: 1 },
            attributes: { text: "täxt", number: 7, digits: decimal("-12.50"), bytes: new Uint8Array([0, 255]) },
            delaySeconds: 0.5,
            groupId: "g",
            deduplicationId: "d",
            priority: 9,
        });
        sendMany("other", ["one", new Uint8Array([2])]);
    }, message());
    const [first, second, third] = sent;
    assert.deepEqual(first.json(), { a: 1 });
    assert.deepEqual([...first.attributes], [
        ["text", "täxt"],
        ["number", decimal("7")],
        ["digits", decimal("-12.50")],
        ["bytes", new Uint8Array([0, 255])],
    ]);
    assert.deepEqual([first.delaySeconds, first.groupId, first.deduplicationId, first.priority], [1, "g", "d", 9]);
    assert.deepEqual([second.queue, second.text(), third.body], ["other", "one", new Uint8Array([2])]);
});

test("a_message_that_a_host_refuses_is_refused_in_tests", async () => {
    const refused = async (outgoing) => (await run(() => send("out", outgoing), message())).reason;
    assert.match(await refused(new Uint8Array(1_048_577)), /1048577 bytes/);
    assert.match(await refused({ attributes: { "": "x" } }), /1 to 256 characters/);
    assert.match(await refused({ delaySeconds: 43_201 }), /12 hours/);
    assert.match(await refused({ delaySeconds: -1 }), /a delay of -1 seconds/);
    assert.match(await refused({ priority: 10 }), /priority 10/);
    assert.match(await refused({ attributes: Object.fromEntries([...Array(11).keys()].map((n) => [`a${n}`, n])) }), /11 attributes/);
});

test("one_message_that_is_not_valid_keeps_back_all", async () => {
    const { verdict, sent } = await run(() => sendMany("out", ["1", { body: "2", priority: 10 }]), message());
    assert.deepEqual([verdict, sent], ["reject", []]);
});

test("a_number_whose_digits_are_not_meant_is_no_attribute", async () => {
    const { verdict, error } = await run(() => send("out", { attributes: { price: 0.1 + 0.2 } }), message());
    assert.equal(verdict, "crash");
    assert.match(error.message, /decimal\("0.30000000000000004"\)/);
});

test("a_missing_grant_is_retried_because_an_operator_can_add_it", async () => {
    const refuseSends = new SendError("not-granted", "queue out");
    const { verdict, reason } = await run(() => send("out", ""), message(), { refuseSends });
    assert.deepEqual([verdict, reason], ["retry", "sending is not granted: queue out"]);
});

test("a_decimal_counts_like_a_number_and_keeps_its_digits", () => {
    assert.equal(decimal("12.50") * 2, 25);
    assert.equal(`${decimal("12.50")}`, "12.50");
    assert.throws(() => decimal("twelve"), /"twelve" is not a decimal number/);
});

test("runs_at_the_same_time_do_not_see_each_others_effects", async () => {
    const handle = async (received) => {
        await new Promise((resolve) => setTimeout(resolve, 5));
        log.warn(received.text());
        send("out", received.body);
    };
    const runs = await Promise.all(["a", "b"].map((body) => run(handle, message(body))));
    assert.deepEqual(runs.map(({ logs, sent }) => [logs, sent.length]), [
        [[{ level: "warn", text: "a" }], 1],
        [[{ level: "warn", text: "b" }], 1],
    ]);
});

test("a_batch_has_one_result_per_message", async () => {
    const handleBatch = (messages) => messages.map((one) => (one.text() === "bad" ? new Reject("bad") : undefined));
    const verdicts = async (handler) =>
        (await runBatch(handler, [message("good"), message("bad")])).results.map(({ verdict }) => verdict);
    assert.deepEqual(await verdicts({ handleBatch }), ["success", "reject"]);
    assert.deepEqual(await verdicts({ handleBatch: () => [] }), ["crash", "crash"]);
    assert.deepEqual(await verdicts({ handleBatch: () => { throw new Retry("all"); } }), ["retry", "retry"]);
});

test("what_is_thrown_and_is_no_error_is_the_reason", () => {
    const circle = {};
    circle.circle = circle;
    const reasons = [{ code: 5 }, "text", null, [1, 2], circle].map(reasonOf);
    assert.deepEqual(reasons, ['{"code":5}', "text", "null", "1,2", "an error that has no text"]);
});
