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
    constructor(fields: MessageFields);
    /**
     * The id that the queue gave the message when it was sent. It stays the same across retries, so it is the key to
     * use for idempotency.
     *
     * @readonly
     * @type {string}
     */
    readonly id: string;
    /**
     * The body: any bytes, empty included, up to 1 MiB. Nothing guarantees that it is text.
     *
     * @readonly
     * @type {Uint8Array}
     */
    readonly body: Uint8Array;
    /**
     * What the sender attached, in the sender's order.
     *
     * @readonly
     * @type {ReadonlyMap<string, AttributeValue>}
     */
    readonly attributes: ReadonlyMap<string, AttributeValue>;
    /**
     * The name of the queue that the message was received from.
     *
     * @readonly
     * @type {string}
     */
    readonly queue: string;
    /**
     * How many times the message has been received, this time included: 1 the first time.
     *
     * @readonly
     * @type {number}
     */
    readonly receiveCount: number;
    /**
     * When the message was sent.
     *
     * @readonly
     * @type {Date}
     */
    readonly sentAt: Date;
    /**
     * The message group. Messages of one group are handled one after another, in the order sent.
     *
     * @readonly
     * @type {string | undefined}
     */
    readonly groupId: string | undefined;
    /**
     * Reads the body as UTF-8 text.
     *
     * @returns {string}
     * @throws {Reject} if it is not; the reason says at which byte the text ends.
     */
    text(): string;
    /**
     * Reads the body as JSON.
     *
     * @returns {any}
     * @throws {Reject} if it is not: the same bytes will not become valid by trying again. Use `JSON.parse` on `text()`
     *     to decide otherwise.
     */
    json(): any;
    /**
     * Returns the attribute of this name, which is case-sensitive.
     *
     * @param {string} name
     * @returns {AttributeValue | undefined}
     */
    attribute(name: string): AttributeValue | undefined;
}
export type AttributeValue = import("./attribute.js").AttributeValue;
export type MessageFields = {
    id: string;
    body: Uint8Array;
    attributes: Map<string, AttributeValue>;
    queue: string;
    receiveCount: number;
    sentAt: Date;
    groupId: string | undefined;
};
