/**
 * What an error says for people.
 *
 * @module
 */

/** A chain of causes that is longer than this may go round in a circle. */
const CAUSES_MAX = 10;

/**
 * Returns an error and its causes, the outermost first.
 *
 * @param {unknown} error
 * @returns {unknown[]}
 */
export function chainOf(error) {
    const chain = [error];
    for (let cause = causeOf(error); cause !== undefined && chain.length < CAUSES_MAX; cause = causeOf(cause)) {
        chain.push(cause);
    }
    return chain;
}

/**
 * Returns the type and the message of an error, and those of its causes.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function reasonOf(error) {
    return chainOf(error).map(titleOf).join("; caused by ");
}

/**
 * Returns the type and the message of an error. Anything can be thrown, so nothing is relied on.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function titleOf(error) {
    try {
        if (!(error instanceof Error)) {
            const text = String(error);
            return text === "[object Object]" ? JSON.stringify(error) : text;
        }
        return error.message ? `${error.name}: ${error.message}` : error.name;
    } catch {
        return "an error that has no text";
    }
}

/** @param {unknown} error */
function causeOf(error) {
    return error instanceof Error ? error.cause : undefined;
}
