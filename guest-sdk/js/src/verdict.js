/**
 * What a handler's end means for its message. The host and tests go by the same rules.
 *
 * @module
 */

import { Failure, Reject, Retry, RetryAfter } from "./failure.js";
import { SendError } from "./send-error.js";

/** The names of errors after which another attempt may go well. By names, so that no handler carries classes it does not use. */
const MAY_PASS = new Set(["ConfigError", "FetchError", "KeyValueError"]);

/**
 * Returns the failure that an error stands for, or nothing if there is none: then a handler that threw it has crashed. What
 * a handler returns is asked as well, so that a failure that was returned in place of thrown does not pass as success.
 *
 * @param {unknown} error
 * @returns {Failure | undefined}
 */
export function failureOf(error) {
    if (error instanceof Failure) {
        return error;
    }
    if (error instanceof SendError) {
        return error.kind === "not-granted" ? new Retry(error.message) : new Reject(error.message);
    }
    if (error instanceof Error && (MAY_PASS.has(error.name) || isTimeout(error))) {
        return new Retry(error.message);
    }
    return undefined;
}

/**
 * Whether a signal of `AbortSignal.timeout` has ended something. Other errors of that name are not known well enough.
 *
 * @param {Error} error
 */
function isTimeout(error) {
    return error.name === "TimeoutError" && error.constructor === DOMException;
}

/**
 * Returns the failures of a batch's messages, nothing for those that succeeded.
 *
 * @param {unknown} results What a batch handler returned.
 * @returns {(Failure | undefined)[]}
 */
export function failuresOf(results) {
    if (!Array.isArray(results)) {
        throw new TypeError("handleBatch did not return an array of one result per message");
    }
    return results.map((result, index) => {
        const failure = failureOf(result);
        if (failure === undefined && result !== undefined && result !== null) {
            throw new TypeError(`result ${index} of handleBatch is neither nothing nor a failure: ${String(result)}`);
        }
        return failure;
    });
}

/**
 * @param {Failure} failure
 * @returns {"retry" | "retry-after" | "reject"}
 */
export function verdictOf(failure) {
    if (failure instanceof RetryAfter) {
        return "retry-after";
    }
    return failure instanceof Reject ? "reject" : "retry";
}

/**
 * Says what kind of handler a module exports by default.
 *
 * @param {{ default?: unknown }} module
 * @returns {"handler" | "batch-handler"}
 */
export function kindOf(module) {
    const exported = module.default;
    if (typeof exported === "function") {
        return "handler";
    }
    const batch = /** @type {{ handleBatch?: unknown } | null | undefined} */ (exported)?.handleBatch;
    if (typeof batch === "function") {
        return "batch-handler";
    }
    throw new TypeError("the default export is neither a function nor an object with a function handleBatch");
}
