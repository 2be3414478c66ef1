/**
 * Log lines of a component: the host takes them.
 *
 * @module
 */

import { log } from "wasi:logging/logging@0.1.0-draft";

/**
 * @param {import("../log.js").Level} level
 * @param {string} text
 */
export function write(level, text) {
    log(level, "", text);
}
