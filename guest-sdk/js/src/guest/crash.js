/**
 * The end of a handler that threw something that is no failure, and what its errors look like.
 *
 * @module
 */

import { report } from "sandhog:worker/crash@0.1.0";
import { exit } from "wasi:cli/exit@0.2.12";
import { placeOf } from "../line-table.js";
import { chainOf, reasonOf, titleOf } from "../reason.js";

/** Where the build leaves the table of the author's lines. */
const LINES = Symbol.for("sandhog.lines");
/** A frame as the engine writes it. */
const FRAME = /^\s*at (.*?) \((?:native|[^()]*:(\d+):(\d+))\)$/;

/**
 * Says why, and ends the component.
 *
 * @param {unknown} error
 * @returns {never}
 */
export function crash(error) {
    report(reasonOf(error).toWellFormed(), traceOf(error).toWellFormed());
    // An error that the engine sees makes it print several lines and trap. This ends the component as well, and says nothing.
    exit({ tag: "err" });
    throw error;
}

/**
 * Shows an error with its stack and its causes.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function describe(error) {
    const trace = error instanceof Error ? traceOf(error) : "";
    return trace ? `${titleOf(error)}\n${trace}` : titleOf(error);
}

/**
 * Returns the stacks of an error and of its causes, in files and lines of the author.
 *
 * @param {unknown} error
 * @returns {string}
 */
function traceOf(error) {
    const [first, ...causes] = chainOf(error);
    const parts = [framesOf(first), ...causes.flatMap((cause) => [`caused by ${titleOf(cause)}`, framesOf(cause)])];
    return parts.filter(Boolean).join("\n");
}

/**
 * Returns the frames that are the author's, innermost first.
 *
 * @param {unknown} error
 * @returns {string}
 */
function framesOf(error) {
    const stack = error instanceof Error && typeof error.stack === "string" ? error.stack : "";
    const table = JSON.parse(/** @type {any} */ (globalThis)[LINES] ?? '{"sources":[],"mappings":""}');
    const frames = stack.split("\n").map((frame) => {
        const [, name, line, column] = FRAME.exec(frame) ?? [];
        const place = line && placeOf(table, Number(line), Number(column));
        const where = place && `${place.source}:${place.line}`;
        return !where ? "" : name === "<anonymous>" ? `at ${where}` : `at ${name} (${where})`;
    });
    return frames.filter(Boolean).join("\n");
}
