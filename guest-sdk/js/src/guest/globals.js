/**
 * The globals that programs expect and the engine lacks, or has in a form that a snapshot spoils.
 *
 * @module
 */

import "./timers.js";
import { getRandomBytes } from "wasi:random/random@0.2.12";
import Promise from "promise-polyfill";
import { log } from "../log.js";
import { isUnderWay, mustBeUnderWay } from "./attempt.js";
import { describe } from "./crash.js";
import { enqueue } from "./loop.js";
import { Decoder, Encoder } from "./encoding.js";

/** The most bytes that one call of `getRandomValues` fills, as everywhere. */
const RANDOM_BYTES_MAX = 65_536;

/** @type {Uint32Array | undefined} */
let random;
let timeOrigin = 0;

/** Starts the clock of an attempt. */
export function startClock() {
    timeOrigin = engineNow();
}

/**
 * Shows a value of `console.log` in one line.
 *
 * @param {unknown} value
 * @returns {string}
 */
function show(value) {
    if (typeof value === "string") {
        return value;
    }
    if (value instanceof Error) {
        return describe(value);
    }
    try {
        return JSON.stringify(value) ?? String(value);
    } catch {
        return String(value);
    }
}

/** @param {(text: string) => void} write */
const line =
    (write) =>
    (/** @type {unknown[]} */ ...values) =>
        write(values.map(show).join(" "));

const engineNow = performance.now.bind(performance);
const engineRandom = Math.random;

/**
 * The engine's own generator goes on from the snapshot, so that it says the same in every instance. This one (xorshift128)
 * starts from the host's random numbers. While the snapshot is made there are none.
 */
function randomNumber() {
    if (!isUnderWay()) {
        return engineRandom();
    }
    random ??= new Uint32Array(getRandomBytes(16).slice().buffer);
    let mixed = random[3];
    mixed ^= mixed << 11;
    mixed ^= mixed >>> 8;
    random[3] = random[2];
    random[2] = random[1];
    random[1] = random[0];
    random[0] = mixed ^ random[0] ^ (random[0] >>> 19);
    return random[0] / 2 ** 32;
}

/**
 * @template {ArrayBufferView} T
 * @param {T} view
 * @returns {T}
 */
function getRandomValues(view) {
    mustBeUnderWay("randomness");
    if (view.byteLength > RANDOM_BYTES_MAX) {
        throw new RangeError(`${view.byteLength} random bytes at a time are more than ${RANDOM_BYTES_MAX}`);
    }
    new Uint8Array(view.buffer, view.byteOffset, view.byteLength).set(getRandomBytes(view.byteLength));
    return view;
}

function randomUUID() {
    const bytes = getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = /** @type {any} */ (bytes).toHex();
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** @type {any} */
const Promises = Promise;
Promises._immediateFn = enqueue;
Promises._unhandledRejectionFn = (/** @type {unknown} */ error) => {
    log.error(`a promise that nobody waits for has failed: ${describe(error)}`);
};
Promises.withResolvers ??= () => {
    /** @type {any} */
    const parts = {};
    parts.promise = new Promises((/** @type {Function} */ resolve, /** @type {Function} */ reject) => {
        Object.assign(parts, { resolve, reject });
    });
    return parts;
};

Math.random = randomNumber;
Object.assign(globalThis, {
    performance: { now: () => engineNow() - timeOrigin },
    Promise: Promises,
    queueMicrotask: enqueue,
    TextDecoder: Decoder,
    TextEncoder: Encoder,
    crypto: { getRandomValues, randomUUID },
    console: {
        trace: line(log.trace),
        debug: line(log.debug),
        log: line(log.info),
        info: line(log.info),
        warn: line(log.warn),
        error: line(log.error),
    },
});
