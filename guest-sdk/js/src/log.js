/**
 * Lines of the host's log.
 *
 * @module
 */

import { write } from "#logger";

/** @typedef {"trace" | "debug" | "info" | "warn" | "error" | "critical"} Level */

/**
 * @param {Level} level
 * @returns {(text: string) => void}
 */
const at = (level) => (text) => write(level, String(text).toWellFormed());

/**
 * Writes lines to the host's log, where they carry the handler and the message's id. The manifest's `[grant] log` says
 * from which level on they are kept.
 *
 * @example
 * log.info(`order ${order.id} has ${order.items.length} items`);
 */
export const log = {
    /** Writes a line at level trace. */
    trace: at("trace"),
    /** Writes a line at level debug. */
    debug: at("debug"),
    /** Writes a line at level info. */
    info: at("info"),
    /** Writes a line at level warn. */
    warn: at("warn"),
    /** Writes a line at level error. */
    error: at("error"),
    /** Writes a line at level critical. */
    critical: at("critical"),
};
