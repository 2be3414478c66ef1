/**
 * Records messages as sent, if a host would have accepted them: all of them or none.
 *
 * @param {string} queue
 * @param {import("../send.js").Prepared[]} messages
 */
export function record(queue: string, messages: import("../send.js").Prepared[]): void;
/** @typedef {import("../testing.js").Sent} Sent */
/** @typedef {import("../testing.js").Logged} Logged */
/** @typedef {{ sent: Sent[], logs: Logged[], refusal: SendError | undefined }} Recording */
/** @type {AsyncLocalStorage<Recording>} */
export const recorder: AsyncLocalStorage<Recording>;
export type AttributeValue = import("../attribute.js").AttributeValue;
export type Sent = import("../testing.js").Sent;
export type Logged = import("../testing.js").Logged;
export type Recording = {
    sent: Sent[];
    logs: Logged[];
    refusal: SendError | undefined;
};
import { AsyncLocalStorage } from "node:async_hooks";
import { SendError } from "../send-error.js";
