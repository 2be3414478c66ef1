/**
 * What a handler did in one run of a test. Runs at the same time do not see each other's.
 *
 * @module
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { SendError } from "../send-error.js";

/** @typedef {import("../attribute.js").AttributeValue} AttributeValue */

const BODY_BYTES_MAX = 1_048_576;
const ATTRIBUTES_MAX = 10;
const NAME_CHARS_MAX = 256;
const DELAY_SECONDS_MAX = 43_200;

/** @typedef {import("../testing.js").Sent} Sent */
/** @typedef {import("../testing.js").Logged} Logged */
/** @typedef {import("../testing.js").Requested} Requested */
/** @typedef {import("./keyvalue.js").Content} Content */

/**
 * What a run has done so far, and what answers it.
 *
 * @typedef {object} Recording
 * @property {Sent[]} sent
 * @property {Logged[]} logs
 * @property {Requested[]} requests
 * @property {SendError | undefined} refusal
 * @property {import("./fetch.js").Http | undefined} http
 * @property {Map<string, Content> | undefined} stores
 * @property {Record<string, string> | undefined} config
 */

/** @type {AsyncLocalStorage<Recording>} */
export const recorder = new AsyncLocalStorage();

/**
 * Returns the recording of the run that is under way.
 *
 * @returns {Recording}
 */
export function recording() {
    const found = recorder.getStore();
    if (!found) {
        throw new Error("there is no host here: call the handler through `run` of sandhog/testing");
    }
    return found;
}

/**
 * Records messages as sent, if a host would have accepted them: all of them or none.
 *
 * @param {string} queue
 * @param {import("../send.js").Prepared[]} messages
 */
export function record(queue, messages) {
    const { refusal, sent } = recording();
    if (refusal) {
        throw refusal;
    }
    messages.forEach(check);
    sent.push(...messages.map((message) => new SentMessage(queue, message)));
}

/**
 * @param {import("../send.js").Prepared} message
 */
function check({ body, attributes, delaySeconds }) {
    /** @param {string} reason */
    const invalid = (reason) => new SendError("invalid", reason);
    if (body.length > BODY_BYTES_MAX) {
        throw invalid(`a body of ${body.length} bytes is more than ${BODY_BYTES_MAX}`);
    }
    if (attributes.size > ATTRIBUTES_MAX) {
        throw invalid(`${attributes.size} attributes are more than ${ATTRIBUTES_MAX}`);
    }
    for (const name of attributes.keys()) {
        const characters = [...name].length;
        if (characters < 1 || characters > NAME_CHARS_MAX) {
            throw invalid(`attribute name ${JSON.stringify(name)} does not have 1 to ${NAME_CHARS_MAX} characters`);
        }
    }
    if (delaySeconds !== undefined && delaySeconds > DELAY_SECONDS_MAX) {
        throw invalid(`a delay of ${delaySeconds} seconds is more than 12 hours`);
    }
}

/** @implements {Sent} */
class SentMessage {
    /**
     * @param {string} queue
     * @param {import("../send.js").Prepared} message
     */
    constructor(queue, { body, attributes, delaySeconds, groupId, deduplicationId, priority }) {
        this.queue = queue;
        this.body = body;
        this.attributes = attributes;
        this.delaySeconds = delaySeconds;
        this.groupId = groupId;
        this.deduplicationId = deduplicationId;
        this.priority = priority;
    }

    text() {
        return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.body);
    }

    json() {
        return JSON.parse(this.text());
    }
}
