/**
 * Sends of a handler that runs in Node: they are recorded.
 *
 * @module
 */

import { record } from "./recorder.js";

/**
 * @param {string} queue
 * @param {import("../send.js").Prepared} message
 */
export function sendOne(queue, message) {
    record(queue, [message]);
}

/**
 * @param {string} queue
 * @param {import("../send.js").Prepared[]} messages
 */
export function sendAll(queue, messages) {
    record(queue, messages);
}
