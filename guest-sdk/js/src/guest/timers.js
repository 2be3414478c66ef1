/**
 * Timers. Apart from the other globals, since the promises look for them when they are loaded.
 *
 * @module
 */

import { clearTimer, setTimer } from "./loop.js";

/** @param {boolean} repeats */
const timer =
    (repeats) =>
    (/** @type {Function} */ run, /** @type {unknown} */ delay, /** @type {unknown[]} */ ...values) =>
        setTimer(() => run(...values), Number(delay ?? 0), repeats);

Object.assign(globalThis, {
    setTimeout: timer(false),
    setInterval: timer(true),
    clearTimeout: clearTimer,
    clearInterval: clearTimer,
});
