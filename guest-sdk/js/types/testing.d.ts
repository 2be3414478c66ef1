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
export function message(init?: MessageInit | string | Uint8Array): Message;
/**
 * Runs a handler on one message, as a host would.
 *
 * @param {import("./index.js").Handler} handler
 * @param {Message} message
 * @param {RunOptions} [options]
 * @returns {Promise<Verdict & Effects>}
 */
export function run(handler: import("./index.js").Handler, message: Message, options?: RunOptions): Promise<Verdict & Effects>;
/**
 * Runs a batch handler on messages, as a host would.
 *
 * @param {import("./index.js").BatchHandler} handler
 * @param {Message[]} messages
 * @param {RunOptions} [options]
 * @returns {Promise<{ results: Verdict[] } & Effects>} One result per message.
 */
export function runBatch(handler: import("./index.js").BatchHandler, messages: Message[], options?: RunOptions): Promise<{
    results: Verdict[];
} & Effects>;
/**
 * What is special about a message; the rest is that of a first receive of queue `test`, sent at the start of 2026.
 */
export type MessageInit = {
    /**
     * Text or any bytes; empty if there is no `json` either.
     */
    body?: string | Uint8Array<ArrayBufferLike> | undefined;
    /**
     * A value whose JSON is the body.
     */
    json?: unknown;
    attributes?: Record<string, import("./attribute.js").AttributeInput> | ReadonlyMap<string, import("./attribute.js").AttributeInput> | undefined;
    /**
     * `test-message` if absent.
     */
    id?: string | undefined;
    /**
     * `test` if absent.
     */
    queue?: string | undefined;
    /**
     * 1 if absent.
     */
    receiveCount?: number | undefined;
    sentAt?: Date | undefined;
    groupId?: string | undefined;
};
/**
 * A message that a handler sent.
 */
export type Sent = {
    /**
     * The queue that it was sent to.
     */
    queue: string;
    body: Uint8Array;
    attributes: Map<string, AttributeValue>;
    delaySeconds: number | undefined;
    groupId: string | undefined;
    deduplicationId: string | undefined;
    priority: number | undefined;
    /**
     * Returns the body as text.
     */
    text: () => string;
    /**
     * Returns the value of a body that is JSON.
     */
    json: () => any;
};
/**
 * A line that a handler logged.
 */
export type Logged = {
    level: import("./log.js").Level;
    text: string;
};
/**
 * A request that a handler made with `fetch`.
 */
export type Requested = {
    method: string;
    url: string;
    headers: Headers;
    body: Uint8Array;
    /**
     * Returns the body as text.
     */
    text: () => string;
    /**
     * Returns the value of a body that is JSON.
     */
    json: () => any;
};
/**
 * What is in a key-value store: text, bytes, or other values as JSON; or what a store of another run has.
 */
export type StoreInit = Record<string, unknown> | KeyValueStore;
/**
 * What became of a message.
 */
export type Verdict = {
    verdict: "success" | "retry" | "retry-after" | "reject" | "crash";
    /**
     * Why it failed.
     */
    reason: string | undefined;
    /**
     * The delay of `retry-after`.
     */
    seconds: number | undefined;
    /**
     * What was thrown.
     */
    error: unknown;
};
/**
 * What a handler did besides.
 */
export type Effects = {
    /**
     * What it sent, in order. The host drops what a failed attempt sent; a test can look at it.
     */
    sent: Sent[];
    logs: Logged[];
    /**
     * What it asked for with `fetch`, in order.
     */
    requests: Requested[];
    /**
     * The store `default` as it left it, also where the host would have dropped what it wrote.
     */
    keyvalue: KeyValueStore;
    /**
     * The store of this name.
     */
    store: (name: string) => KeyValueStore;
};
/**
 * What is prepared for a handler. What is not prepared fails as what the manifest does not grant.
 */
export type RunOptions = {
    /**
     * Makes every send fail with this error.
     */
    refuseSends?: import("./send-error.js").SendError | undefined;
    /**
     * Answers `fetch`: a function from the request to the response, or responses by what is asked for,
     * such as `"POST https://api.example.com/invoices"`, or the address alone.
     */
    http?: import("./native/fetch.js").Http | undefined;
    /**
     * What is in the key-value store `default`.
     */
    keyvalue?: StoreInit | undefined;
    /**
     * What is in key-value stores by their names.
     */
    stores?: Record<string, StoreInit> | undefined;
    /**
     * The values of the configuration.
     */
    config?: Record<string, string> | undefined;
};
export type AttributeInput = import("./attribute.js").AttributeInput;
export type AttributeValue = import("./attribute.js").AttributeValue;
export type Failure = import("./failure.js").Failure;
export type Http = import("./native/fetch.js").Http;
import { Message } from "./message.js";
import { KeyValueStore } from "./keyvalue.js";
