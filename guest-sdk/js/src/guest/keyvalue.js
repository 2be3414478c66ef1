/**
 * The key-value stores of a component: the host keeps them.
 *
 * @module
 */

import { Cas, increment, swap } from "wasi:keyvalue/atomics@0.2.0-draft2";
import { deleteMany, getMany, setMany } from "wasi:keyvalue/batch@0.2.0-draft2";
import { open } from "wasi:keyvalue/store@0.2.0-draft2";
import { KeyValueError } from "../keyvalue-error.js";
import { atEnd, mustBeUnderWay } from "./attempt.js";

/** The buckets that the attempt has opened. @type {Map<string, any>} */
const opened = new Map();

atEnd(() => {
    opened.forEach((bucket) => bucket[Symbol.dispose]());
    opened.clear();
});

/**
 * @param {string} name
 * @returns {import("../keyvalue.js").Bucket}
 */
export function openBucket(name) {
    mustBeUnderWay("key-value store");
    const bucket = opened.get(name) ?? answered(() => open(name));
    opened.set(name, bucket);
    return {
        get: (key) => answered(() => bucket.get(key)) ?? undefined,
        set: (key, value) => answered(() => bucket.set(key, value)),
        delete: (key) => answered(() => bucket.delete(key)),
        exists: (key) => answered(() => bucket.exists(key)),
        page(cursor) {
            const page = answered(() => bucket.listKeys(cursor ?? null));
            return { keys: page.keys, cursor: page.cursor ?? undefined };
        },
        increment: (key, delta) => answered(() => increment(bucket, key, delta)),
        compareAndSet: (key, expected, value) => compareAndSet(bucket, key, expected, value),
        getMany(keys) {
            const found = new Map(answered(() => getMany(bucket, keys)).flatMap((entry) => (entry ? [entry] : [])));
            return keys.map((key) => found.get(key));
        },
        setMany: (entries) => answered(() => setMany(bucket, entries)),
        deleteMany: (keys) => answered(() => deleteMany(bucket, keys)),
    };
}

/**
 * @param {any} bucket
 * @param {string} key
 * @param {Uint8Array | undefined} expected
 * @param {Uint8Array} value
 * @returns {boolean}
 */
function compareAndSet(bucket, key, expected, value) {
    const noted = answered(() => Cas.new(bucket, key));
    const current = answered(() => noted.current()) ?? undefined;
    if (!isSame(current, expected)) {
        noted[Symbol.dispose]();
        return false;
    }
    try {
        swap(noted, value);
        return true;
    } catch (error) {
        const { payload } = /** @type {any} */ (error);
        if (payload?.tag !== "cas-failed") {
            throw payload ? errorOf(payload.val) : error;
        }
        payload.val[Symbol.dispose]();
        return false;
    }
}

/**
 * @param {Uint8Array | undefined} one
 * @param {Uint8Array | undefined} other
 */
function isSame(one, other) {
    if (!one || !other) {
        return one === other;
    }
    return one.length === other.length && one.every((byte, index) => byte === other[index]);
}

/**
 * @template T
 * @param {() => T} call
 * @returns {T}
 */
function answered(call) {
    try {
        return call();
    } catch (error) {
        const { payload } = /** @type {any} */ (error);
        throw payload ? errorOf(payload) : error;
    }
}

/** @param {{ tag: string, val?: string }} payload */
function errorOf({ tag, val }) {
    return new KeyValueError(val ?? (tag === "access-denied" ? "the manifest grants no key-value store" : tag));
}
