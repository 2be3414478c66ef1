/**
 * The configuration of a component: the host has it.
 *
 * @module
 */

import { get, getAll } from "wasi:config/store@0.2.0-rc.1";
import { ConfigError } from "../config-error.js";
import { mustBeUnderWay } from "./attempt.js";

/**
 * @param {string} name
 * @returns {string | undefined}
 */
export function readOne(name) {
    return answered(() => get(name)) ?? undefined;
}

/** @returns {Map<string, string>} */
export function readAll() {
    return new Map(answered(getAll));
}

/**
 * @template T
 * @param {() => T} call
 * @returns {T}
 */
function answered(call) {
    mustBeUnderWay("configuration");
    try {
        return call();
    } catch (error) {
        const { payload } = /** @type {any} */ (error);
        throw payload ? new ConfigError(payload.val) : error;
    }
}
