/**
 * The configuration of a handler.
 *
 * @module
 */

import { readAll, readOne } from "#config";

/**
 * The values that the manifest grants: `[grant] config = { api = "https://api.example.com", token = { from-env = "TOKEN" } }`.
 * Those that the host takes from a file or a variable of its own are secrets; the host writes none of them to its log.
 *
 * @example
 * const token = config.get("token");
 */
export const config = {
    /**
     * Returns a value, nothing if the manifest has none of this name.
     *
     * @param {string} name
     * @returns {string | undefined}
     */
    get(name) {
        return readOne(name.toWellFormed());
    },

    /**
     * Returns all values.
     *
     * @returns {Map<string, string>}
     */
    all() {
        return readAll();
    },
};
