/**
 * The configuration of a handler that runs in Node: that of the test.
 *
 * @module
 */

import { ConfigError } from "../config-error.js";
import { recording } from "./recorder.js";

/**
 * @param {string} name
 * @returns {string | undefined}
 */
export function readOne(name) {
    return readAll().get(name);
}

/** @returns {Map<string, string>} */
export function readAll() {
    const { config } = recording();
    if (!config) {
        throw new ConfigError('the manifest grants no configuration: add config = { NAME = "VALUE" } to [grant]');
    }
    return new Map(Object.entries(config));
}
