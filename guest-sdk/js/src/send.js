/**
 * Messages that a handler sends.
 *
 * @module
 */

import { sendAll, sendOne } from "#sender";
import { attributeOf } from "./attribute.js";
import { SendError } from "./send-error.js";
import { encode } from "./text.js";

/** @typedef {import("./attribute.js").AttributeInput} AttributeInput */
/** @typedef {import("./attribute.js").AttributeValue} AttributeValue */

/** The highest priority. */
const PRIORITY_MAX = 9;
/** What does not pass a signed 32-bit number would come out as another delay; the host refuses this one. */
const SECONDS_MAX = 2 ** 31 - 1;

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
export function send(queue, message) {
    sendOne(queue.toWellFormed(), prepare(message));
}

/**
 * Sends messages in their order, all of them or, on an error, none.
 *
 * @param {string} queue A queue that the manifest grants.
 * @param {Iterable<Outgoing | string | Uint8Array>} messages
 * @throws {SendError} if one is not accepted.
 */
export function sendMany(queue, messages) {
    sendAll(queue.toWellFormed(), Array.from(messages, prepare));
}

/**
 * @param {Outgoing | string | Uint8Array} message
 * @returns {Prepared}
 */
function prepare(message) {
    if (typeof message === "string" || message instanceof Uint8Array) {
        return prepare({ body: message });
    }
    const { attributes = {}, delaySeconds, groupId, deduplicationId, priority } = message;
    if (delaySeconds !== undefined && !(delaySeconds >= 0)) {
        throw new SendError("invalid", `a delay of ${delaySeconds} seconds is not 0 to 43200`);
    }
    if (priority !== undefined && !(Number.isInteger(priority) && priority >= 0 && priority <= PRIORITY_MAX)) {
        throw new SendError("invalid", `priority ${priority} is not 0 to ${PRIORITY_MAX}`);
    }
    const pairs = attributes instanceof Map ? [...attributes] : Object.entries(attributes);
    return {
        body: bodyOf(message),
        attributes: new Map(pairs.map(([name, value]) => [name.toWellFormed(), attributeOf(name, value)])),
        delaySeconds: delaySeconds === undefined ? undefined : Math.min(Math.ceil(delaySeconds), SECONDS_MAX),
        groupId: groupId?.toWellFormed(),
        deduplicationId: deduplicationId?.toWellFormed(),
        priority,
    };
}

/**
 * @param {Outgoing} message
 * @returns {Uint8Array}
 */
function bodyOf(message) {
    const { body, json } = message;
    if (body !== undefined && json !== undefined) {
        throw new TypeError("a message has either a body or json");
    }
    if (json !== undefined) {
        const text = JSON.stringify(json);
        if (text === undefined) {
            throw new SendError("invalid", `a ${typeof json} has no JSON form`);
        }
        return encode(text);
    }
    if (body === undefined || typeof body === "string") {
        return encode(body ?? "");
    }
    if (body instanceof Uint8Array) {
        return body;
    }
    throw new TypeError("the body is neither text nor a Uint8Array; for other values there is json");
}
