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
import { KeyValueStore } from "./keyvalue.js";
import { Message } from "./message.js";
import { takeOverFetch } from "./native/fetch.js";
import { bucketOf } from "./native/keyvalue.js";
import { recorder } from "./native/recorder.js";
import { reasonOf } from "./reason.js";
import { encode } from "./text.js";
import { failureOf, failuresOf, verdictOf } from "./verdict.js";

/** @typedef {import("./attribute.js").AttributeInput} AttributeInput */
/** @typedef {import("./attribute.js").AttributeValue} AttributeValue */
/** @typedef {import("./failure.js").Failure} Failure */
/** @typedef {import("./native/fetch.js").Http} Http */

takeOverFetch();

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
 * A request that a handler made with `fetch`.
 *
 * @typedef {object} Requested
 * @property {string} method
 * @property {string} url
 * @property {Headers} headers
 * @property {Uint8Array} body
 * @property {() => string} text Returns the body as text.
 * @property {() => any} json Returns the value of a body that is JSON.
 */

/**
 * What is in a key-value store: text, bytes, or other values as JSON; or what a store of another run has.
 *
 * @typedef {Record<string, unknown> | KeyValueStore} StoreInit
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
 * @property {Requested[]} requests What it asked for with `fetch`, in order.
 * @property {KeyValueStore} keyvalue The store `default` as it left it, also where the host would have dropped what it wrote.
 * @property {(name: string) => KeyValueStore} store The store of this name.
 */

/**
 * What is prepared for a handler. What is not prepared fails as what the manifest does not grant.
 *
 * @typedef {object} RunOptions
 * @property {import("./send-error.js").SendError} [refuseSends] Makes every send fail with this error.
 * @property {Http} [http] Answers `fetch`: a function from the request to the response, or responses by what is asked for,
 *     such as `"POST https://api.example.com/invoices"`, or the address alone.
 * @property {StoreInit} [keyvalue] What is in the key-value store `default`.
 * @property {Record<string, StoreInit>} [stores] What is in key-value stores by their names.
 * @property {Record<string, string>} [config] The values of the configuration.
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
    return { ...verdict, ...effectsOf(recording) };
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
    return { results, ...effectsOf(recording) };
}

/**
 * @param {RunOptions} options
 * @returns {import("./native/recorder.js").Recording}
 */
function start({ refuseSends, http, keyvalue, stores, config }) {
    const inits = keyvalue ? { ...stores, default: keyvalue } : stores;
    const contents = inits && new Map(Object.entries(inits).map(([name, init]) => [name, contentOf(init)]));
    return { sent: [], logs: [], requests: [], refusal: refuseSends, http, stores: contents, config };
}

/**
 * @param {StoreInit} init
 * @returns {import("./native/keyvalue.js").Content}
 */
function contentOf(init) {
    if (init instanceof KeyValueStore) {
        return init.getMany(init.keys());
    }
    const bytes = (/** @type {unknown} */ value) => {
        const isText = typeof value === "string";
        return value instanceof Uint8Array ? value : encode(isText ? value : JSON.stringify(value));
    };
    return new Map(Object.entries(init).map(([key, value]) => [key, bytes(value)]));
}

/**
 * @param {import("./native/recorder.js").Recording} recording
 * @returns {Effects}
 */
function effectsOf({ sent, logs, requests, stores }) {
    const store = (/** @type {string} */ name) => new KeyValueStore(() => bucketOf(stores?.get(name) ?? new Map()));
    return { sent, logs, requests, keyvalue: store("default"), store };
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
        return { verdict: "crash", reason: reasonOf(error), seconds: undefined, error };
    }
    const seconds = /** @type {{ seconds?: number }} */ (failure).seconds;
    return { verdict: verdictOf(failure), reason: failure.reason, seconds, error };
}
