/**
 * Returns an error and its causes, the outermost first.
 *
 * @param {unknown} error
 * @returns {unknown[]}
 */
export function chainOf(error: unknown): unknown[];
/**
 * Returns the type and the message of an error, and those of its causes.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function reasonOf(error: unknown): string;
/**
 * Returns the type and the message of an error. Anything can be thrown, so nothing is relied on.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function titleOf(error: unknown): string;
