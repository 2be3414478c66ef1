/**
 * One delivery of a message, as a handler receives it.
 *
 * @module
 */

import { Reject } from "./failure.js";
import { decode } from "./text.js";

/** @typedef {import("./attribute.js").AttributeValue} AttributeValue */

/**
 * @typedef {object} MessageFields
 * @property {string} id
 * @property {Uint8Array} body
 * @property {Map<string, AttributeValue>} attributes
 * @property {string} queue
 * @property {number} receiveCount
 * @property {Date} sentAt
 * @property {string | undefined} groupId
 */

/**
 * One delivery of a message to a handler. Tests make one with `message` of `sandhog/testing`.
 */
export class Message {
    /**
     * @internal
     * @param {MessageFields} fields
     */
    constructor(fields) {
        /**
         * The id that the queue gave the message when it was sent. It stays the same across retries, so it is the key to
         * use for idempotency.
         *
         * @readonly
         * @type {string}
         */
        this.id = fields.id;
        /**
         * The body: any bytes, empty included, up to 1 MiB. Nothing guarantees that it is text.
         *
         * @readonly
         * @type {Uint8Array}
         */
        this.body = fields.body;
        /**
         * What the sender attached, in the sender's order.
         *
         * @readonly
         * @type {ReadonlyMap<string, AttributeValue>}
         */
        this.attributes = fields.attributes;
        /**
         * The name of the queue that the message was received from.
         *
         * @readonly
         * @type {string}
         */
        this.queue = fields.queue;
        /**
         * How many times the message has been received, this time included: 1 the first time.
         *
         * @readonly
         * @type {number}
         */
        this.receiveCount = fields.receiveCount;
        /**
         * When the message was sent.
         *
         * @readonly
         * @type {Date}
         */
        this.sentAt = fields.sentAt;
        /**
         * The message group. Messages of one group are handled one after another, in the order sent.
         *
         * @readonly
         * @type {string | undefined}
         */
        this.groupId = fields.groupId;
    }

    /**
     * Reads the body as UTF-8 text.
     *
     * @returns {string}
     * @throws {Reject} if it is not; the reason says at which byte the text ends.
     */
    text() {
        return decode(this.body);
    }

    /**
     * Reads the body as JSON.
     *
     * @returns {any}
     * @throws {Reject} if it is not: the same bytes will not become valid by trying again. Use `JSON.parse` on `text()`
     *     to decide otherwise.
     */
    json() {
        const text = decode(this.body);
        try {
            return JSON.parse(text);
        } catch (error) {
            const { message, stack } = /** @type {Error} */ (error);
            // The engine of a component often tells the place in the stack only.
            const place = / position | line /.test(message) ? null : /<input>:(\d+):(\d+)/.exec(stack ?? "");
            throw new Reject(
                `the body is not JSON: ${message}${place ? ` at line ${place[1]} column ${place[2]}` : ""}`,
            );
        }
    }

    /**
     * Returns the attribute of this name, which is case-sensitive.
     *
     * @param {string} name
     * @returns {AttributeValue | undefined}
     */
    attribute(name) {
        return this.attributes.get(name);
    }
}
