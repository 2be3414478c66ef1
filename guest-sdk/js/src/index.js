/**
 * Write sandhog queue handlers in JavaScript or TypeScript: one function, exported by default.
 *
 * @example
 * import { Reject, send } from "sandhog";
 *
 * export default function handle(message) {
 *     const order = message.json(); // not JSON: a dead letter that says where
 *     if (order.items.length === 0) {
 *         throw new Reject("an order of nothing"); // never passes: a dead letter at once
 *     }
 *     send("invoices", { json: invoice(order) }); // goes out only if this function returns
 * }
 *
 * @module
 */

export { Decimal, decimal } from "./attribute.js";
export { config } from "./config.js";
export { ConfigError } from "./config-error.js";
export { Failure, Reject, Retry, RetryAfter } from "./failure.js";
export { FetchError } from "./fetch-error.js";
export { KeyValueStore, keyvalue } from "./keyvalue.js";
export { KeyValueError } from "./keyvalue-error.js";
export { log } from "./log.js";
export { Message } from "./message.js";
export { send, sendMany } from "./send.js";
export { SendError } from "./send-error.js";

/**
 * A value of a message attribute: text, a number or bytes. The three are kept apart on every kind of queue.
 *
 * @typedef {import("./attribute.js").AttributeValue} AttributeValue
 */

/**
 * A message to be sent.
 *
 * @typedef {import("./send.js").Outgoing} Outgoing
 */

/**
 * What a module exports by default to handle one message at a time.
 *
 * Returning means success: the message is deleted, and what was sent goes out. Throwing a {@link Failure} says what
 * becomes of the message. Anything else that is thrown is a crash: it is logged with its stack, and the message is tried
 * again.
 *
 * @callback Handler
 * @param {import("./message.js").Message} message
 * @returns {void | Promise<void>}
 */

/**
 * What a module exports by default to handle several messages at a time, never two of one group.
 *
 * @typedef {object} BatchHandler
 * @property {(messages: import("./message.js").Message[]) => BatchResult[] | Promise<BatchResult[]>} handleBatch
 *     Returns one result per message, in the order of the messages; any other number fails all of them. A failure that
 *     is thrown is that of every message.
 */

/**
 * What became of one message of a batch: nothing for success, or a failure.
 *
 * @typedef {import("./failure.js").Failure | undefined | null} BatchResult
 */
