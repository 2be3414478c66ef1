/**
 * Why the key-value store did not do what it was asked for.
 *
 * @module
 */
/**
 * Why the key-value store did not do what it was asked for: a limit, a key that is too long, a value that is no number. The
 * text is the host's. A handler that does not catch it is tried again.
 */
export class KeyValueError extends Error {
    /** @param {string} message */
    constructor(message: string);
}
