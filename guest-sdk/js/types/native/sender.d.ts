/**
 * @param {string} queue
 * @param {import("../send.js").Prepared} message
 */
export function sendOne(queue: string, message: import("../send.js").Prepared): void;
/**
 * @param {string} queue
 * @param {import("../send.js").Prepared[]} messages
 */
export function sendAll(queue: string, messages: import("../send.js").Prepared[]): void;
