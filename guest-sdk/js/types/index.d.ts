export { config } from "./config.js";
export { ConfigError } from "./config-error.js";
export { FetchError } from "./fetch-error.js";
export { KeyValueError } from "./keyvalue-error.js";
export { log } from "./log.js";
export { Message } from "./message.js";
export { SendError } from "./send-error.js";
/**
 * A value of a message attribute: text, a number or bytes. The three are kept apart on every kind of queue.
 */
export type AttributeValue = import("./attribute.js").AttributeValue;
/**
 * A message to be sent.
 */
export type Outgoing = import("./send.js").Outgoing;
/**
 * What a module exports by default to handle one message at a time.
 *
 * Returning means success: the message is deleted, and what was sent goes out. Throwing a {@link Failure} says what
 * becomes of the message. Anything else that is thrown is a crash: it is logged with its stack, and the message is tried
 * again.
 */
export type Handler = (message: import("./message.js").Message) => void | Promise<void>;
/**
 * What a module exports by default to handle several messages at a time, never two of one group.
 */
export type BatchHandler = {
    /**
     *     Returns one result per message, in the order of the messages; any other number fails all of them. A failure that
     *     is thrown is that of every message.
     */
    handleBatch: (messages: import("./message.js").Message[]) => BatchResult[] | Promise<BatchResult[]>;
};
/**
 * What became of one message of a batch: nothing for success, or a failure.
 */
export type BatchResult = import("./failure.js").Failure | undefined | null;
export { Decimal, decimal } from "./attribute.js";
export { Failure, Reject, Retry, RetryAfter } from "./failure.js";
export { KeyValueStore, keyvalue } from "./keyvalue.js";
export { send, sendMany } from "./send.js";
