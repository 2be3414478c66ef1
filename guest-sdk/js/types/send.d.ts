/**
 * A message to be sent: `body`, or `json`, or neither for an empty one.
 *
 * @typedef {object} Outgoing
 * @property {string | Uint8Array} [body] Text or any bytes, up to 1 MiB.
 * @property {unknown} [json] A value whose JSON is the body.
 * @property {Record<string, AttributeInput> | ReadonlyMap<string, AttributeInput>} [attributes] At most 10, with names of 1
 *     to 256 characters.
 * @property {number} [delaySeconds] Hides the message for so long after it was sent: 0 to 43200; a fraction is rounded up.
 * @property {string} [groupId] Messages of one group are handled one after another, in the order sent.
 * @property {string} [deduplicationId] A second message with the same id within five minutes is accepted and dropped.
 * @property {number} [priority] 0 (the default) to 9, which is received first.
 */
/**
 * A message to be sent, in the form that both senders take.
 *
 * @internal
 * @typedef {object} Prepared
 * @property {Uint8Array} body
 * @property {Map<string, AttributeValue>} attributes
 * @property {number | undefined} delaySeconds
 * @property {string | undefined} groupId
 * @property {string | undefined} deduplicationId
 * @property {number | undefined} priority
 */
/**
 * Sends one message. It is held back until the handler succeeds, and dropped when it fails.
 *
 * @example
 * send("reminders", { body: "pay, please", attributes: { order: 1042 }, delaySeconds: 3600 });
 *
 * @param {string} queue A queue that the manifest grants: `[grant] send = ["reminders"]`.
 * @param {Outgoing | string | Uint8Array} message The message, or only its body.
 * @throws {SendError} if it is not accepted.
 */
export function send(queue: string, message: Outgoing | string | Uint8Array): void;
/**
 * Sends messages in their order, all of them or, on an error, none.
 *
 * @param {string} queue A queue that the manifest grants.
 * @param {Iterable<Outgoing | string | Uint8Array>} messages
 * @throws {SendError} if one is not accepted.
 */
export function sendMany(queue: string, messages: Iterable<Outgoing | string | Uint8Array>): void;
/**
 * A message to be sent: `body`, or `json`, or neither for an empty one.
 */
export type Outgoing = {
    /**
     * Text or any bytes, up to 1 MiB.
     */
    body?: string | Uint8Array<ArrayBufferLike> | undefined;
    /**
     * A value whose JSON is the body.
     */
    json?: unknown;
    /**
     * At most 10, with names of 1
     * to 256 characters.
     */
    attributes?: Record<string, import("./attribute.js").AttributeInput> | ReadonlyMap<string, import("./attribute.js").AttributeInput> | undefined;
    /**
     * Hides the message for so long after it was sent: 0 to 43200; a fraction is rounded up.
     */
    delaySeconds?: number | undefined;
    /**
     * Messages of one group are handled one after another, in the order sent.
     */
    groupId?: string | undefined;
    /**
     * A second message with the same id within five minutes is accepted and dropped.
     */
    deduplicationId?: string | undefined;
    /**
     * 0 (the default) to 9, which is received first.
     */
    priority?: number | undefined;
};
/**
 * A message to be sent, in the form that both senders take.
 */
export type Prepared = {
    body: Uint8Array;
    attributes: Map<string, AttributeValue>;
    delaySeconds: number | undefined;
    groupId: string | undefined;
    deduplicationId: string | undefined;
    priority: number | undefined;
};
export type AttributeInput = import("./attribute.js").AttributeInput;
export type AttributeValue = import("./attribute.js").AttributeValue;
