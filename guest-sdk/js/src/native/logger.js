/**
 * Log lines of a handler that runs in Node: recorded in a test, otherwise written to standard error.
 *
 * @module
 */

import { recorder } from "./recorder.js";

/**
 * @param {import("../log.js").Level} level
 * @param {string} text
 */
export function write(level, text) {
    const record = recorder.getStore();
    if (record) {
        record.logs.push({ level, text });
    } else {
        console.error(`${level}: ${text}`);
    }
}
