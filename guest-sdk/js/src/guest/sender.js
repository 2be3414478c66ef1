/**
 * Sends of a component: the host takes them.
 *
 * @module
 */

import * as host from "sandhog:worker/sender@0.1.0";
import { toWit } from "../attribute.js";
import { SendError } from "../send-error.js";

/** @typedef {import("../send.js").Prepared} Prepared */

/**
 * @param {string} queue
 * @param {Prepared} message
 */
export function sendOne(queue, message) {
    answered(() => host.send(queue, outgoing(message)));
}

/**
 * @param {string} queue
 * @param {Prepared[]} messages
 */
export function sendAll(queue, messages) {
    answered(() => host.sendMany(queue, messages.map(outgoing)));
}

/** @param {Prepared} message */
function outgoing({ body, attributes, ...options }) {
    return { body, attributes: [...attributes].map(([name, value]) => [name, toWit(value)]), ...options };
}

/** @param {() => void} call */
function answered(call) {
    try {
        call();
    } catch (error) {
        const { payload } = /** @type {{ payload?: { tag: import("../send-error.js").SendErrorKind, val: string } }} */ (error);
        throw payload ? new SendError(payload.tag, payload.val) : error;
    }
}
