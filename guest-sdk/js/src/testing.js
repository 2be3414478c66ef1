/**
 * Unit tests of a handler in Node, without a host: messages to pass in, and what came out.
 *
 * @example
 * import assert from "node:assert/strict";
 * import test from "node:test";
 * import { message, run } from "sandhog/testing";
 * import handle from "./handler.js";
 *
 * test("an order is totalled", async () => {
 *     const { verdict, sent } = await run(handle, message({ json: { items: [] } }));
 *     assert.equal(verdict, "success");
 *     assert.deepEqual(sent[0].json(), { total: 0 });
 * });
 *
 * @module
 */

import { attributeOf } from "./attribute.js";
import { Message } from "./message.js";
import { recorder } from "./native/recorder.js";
import { encode } from "./text.js";
import { failureOf, failuresOf, verdictOf } from "./verdict.js";

/** @typedef {import("./attribute.js").AttributeInput} AttributeInput */
/** @typedef {import("./attribute.js").AttributeValue} AttributeValue */
/** @typedef {import("./failure.js").Failure} Failure */

/**
 * What is special about a message; the rest is that of a first receive of queue `test`, sent at the start of 2026.
 *
 * @typedef {object} MessageInit
 * @property {string | Uint8Array} [body] Text or any bytes; empty if there is no `json` either.
 * @property {unknown} [json] A value whose JSON is the body.
 * @property {Record<string, AttributeInput> | ReadonlyMap<string, AttributeInput>} [attributes]
 * @property {string} [id] `test-message` if absent.
 * @property {string} [queue] `test` if absent.
 * @property {number} [receiveCount] 1 if absent.
 * @property {Date} [sentAt]
 * @property {string} [groupId]
 */

/**
 * A message that a handler sent.
 *
 * @typedef {object} Sent
 * @property {string} queue The queue that it was sent to.
 * @property {Uint8Array} body
 * @property {Map<string, AttributeValue>} attributes
 * @property {number | undefined} delaySeconds
 * @property {string | undefined} groupId
 * @property {string | undefined} deduplicationId
 * @property {number | undefined} priority
 * @property {() => string} text Returns the body as text.
 * @property {() => any} json Returns the value of a body that is JSON.
 */

/**
 * A line that a handler logged.
 *
 * @typedef {object} Logged
 * @property {import("./log.js").Level} level
 * @property {string} text
 */

/**
 * What became of a message.
 *
 * @typedef {object} Verdict
 * @property {"success" | "retry" | "retry-after" | "reject" | "crash"} verdict
 * @property {string | undefined} reason Why it failed.
 * @property {number | undefined} seconds The delay of `retry-after`.
 * @property {unknown} error What was thrown.
 */

/**
 * What a handler did besides.
 *
 * @typedef {object} Effects
 * @property {Sent[]} sent What it sent, in order. The host drops what a failed attempt sent; a test can look at it.
 * @property {Logged[]} logs
 */

/**
 * @typedef {object} RunOptions
 * @property {import("./send-error.js").SendError} [refuseSends] Makes every send fail with this error.
 */

/**
 * Makes a message.
 *
 * @param {MessageInit | string | Uint8Array} [init] What is special about it, or only its body.
 * @returns {Message}
 */
export function message(init = {}) {
    if (typeof init === "string" || init instanceof Uint8Array) {
        return message({ body: init });
    }
    const { body, json, attributes = {} } = init;
    if (body !== undefined && json !== undefined) {
        throw new TypeError("a message has either a body or json");
    }
    const content = json === undefined ? (body ?? "") : JSON.stringify(json);
    const pairs = attributes instanceof Map ? [...attributes] : Object.entries(attributes);
    return new Message({
        id: init.id ?? "test-message",
        body: typeof content === "string" ? encode(content) : content,
        attributes: new Map(pairs.map(([name, value]) => [name, attributeOf(name, value)])),
        queue: init.queue ?? "test",
        receiveCount: init.receiveCount ?? 1,
        sentAt: init.sentAt ?? new Date("2026-01-01T00:00:00Z"),
        groupId: init.groupId,
    });
}

/**
 * Runs a handler on one message, as a host would.
 *
 * @param {import("./index.js").Handler} handler
 * @param {Message} message
 * @param {RunOptions} [options]
 * @returns {Promise<Verdict & Effects>}
 */
export async function run(handler, message, options = {}) {
    const recording = start(options);
    const verdict = await recorder.run(recording, async () => {
        try {
            const failure = failureOf(await handler(message));
            return failure ? failed(failure) : success();
        } catch (error) {
            return failed(error);
        }
    });
    return { ...verdict, sent: recording.sent, logs: recording.logs };
}

/**
 * Runs a batch handler on messages, as a host would.
 *
 * @param {import("./index.js").BatchHandler} handler
 * @param {Message[]} messages
 * @param {RunOptions} [options]
 * @returns {Promise<{ results: Verdict[] } & Effects>} One result per message.
 */
export async function runBatch(handler, messages, options = {}) {
    const recording = start(options);
    const results = await recorder.run(recording, async () => {
        try {
            const failures = failuresOf(await handler.handleBatch(messages));
            if (failures.length !== messages.length) {
                throw new TypeError(`${failures.length} results for ${messages.length} messages`);
            }
            return failures.map((failure) => (failure ? failed(failure) : success()));
        } catch (error) {
            return messages.map(() => failed(error));
        }
    });
    return { results, sent: recording.sent, logs: recording.logs };
}

/**
 * @param {RunOptions} options
 * @returns {import("./native/recorder.js").Recording}
 */
function start({ refuseSends }) {
    return { sent: [], logs: [], refusal: refuseSends };
}

/** @returns {Verdict} */
function success() {
    return { verdict: "success", reason: undefined, seconds: undefined, error: undefined };
}

/**
 * @param {unknown} error
 * @returns {Verdict}
 */
function failed(error) {
    const failure = failureOf(error);
    if (!failure) {
        return { verdict: "crash", reason: String(error), seconds: undefined, error };
    }
    const seconds = /** @type {{ seconds?: number }} */ (failure).seconds;
    return { verdict: verdictOf(failure), reason: failure.reason, seconds, error };
}
