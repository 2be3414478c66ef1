/**
 * Returns the recording of the run that is under way.
 *
 * @returns {Recording}
 */
export function recording(): Recording;
/**
 * Records messages as sent, if a host would have accepted them: all of them or none.
 *
 * @param {string} queue
 * @param {import("../send.js").Prepared[]} messages
 */
export function record(queue: string, messages: import("../send.js").Prepared[]): void;
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
export const recorder: AsyncLocalStorage<Recording>;
export type AttributeValue = import("../attribute.js").AttributeValue;
export type Sent = import("../testing.js").Sent;
export type Logged = import("../testing.js").Logged;
export type Requested = import("../testing.js").Requested;
export type Content = import("./keyvalue.js").Content;
/**
 * What a run has done so far, and what answers it.
 */
export type Recording = {
    sent: Sent[];
    logs: Logged[];
    requests: Requested[];
    refusal: SendError | undefined;
    http: import("./fetch.js").Http | undefined;
    stores: Map<string, Content> | undefined;
    config: Record<string, string> | undefined;
};
import { AsyncLocalStorage } from "node:async_hooks";
import { SendError } from "../send-error.js";
