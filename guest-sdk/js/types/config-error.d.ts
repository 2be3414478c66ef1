/**
 * Why a value of the configuration could not be read.
 *
 * @module
 */
/** Why a value of the configuration could not be read. A handler that does not catch it is tried again. */
export class ConfigError extends Error {
    /** @param {string} message */
    constructor(message: string);
}
