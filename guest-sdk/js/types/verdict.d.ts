/**
 * Returns the failure that an error stands for, or nothing if there is none: then a handler that threw it has crashed. What
 * a handler returns is asked as well, so that a failure that was returned in place of thrown does not pass as success.
 *
 * @param {unknown} error
 * @returns {Failure | undefined}
 */
export function failureOf(error: unknown): Failure | undefined;
/**
 * Returns the failures of a batch's messages, nothing for those that succeeded.
 *
 * @param {unknown} results What a batch handler returned.
 * @returns {(Failure | undefined)[]}
 */
export function failuresOf(results: unknown): (Failure | undefined)[];
/**
 * @param {Failure} failure
 * @returns {"retry" | "retry-after" | "reject"}
 */
export function verdictOf(failure: Failure): "retry" | "retry-after" | "reject";
/**
 * Says what kind of handler a module exports by default.
 *
 * @param {{ default?: unknown }} module
 * @returns {"handler" | "batch-handler"}
 */
export function kindOf(module: {
    default?: unknown;
}): "handler" | "batch-handler";
import { Failure } from "./failure.js";
