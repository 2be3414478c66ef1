/**
 * The key-value stores of a handler that runs in Node: they belong to one run of a test.
 *
 * @module
 */

import { KeyValueError } from "../keyvalue-error.js";
import { recording } from "./recorder.js";

/** @typedef {import("../keyvalue.js").Bucket} Bucket */
/** @typedef {Map<string, Uint8Array>} Content */

const KEY_BYTES_MAX = 1024;
const VALUE_BYTES_MAX = 1_048_576;
const KEYS_MAX = 1000;
/** What the host adds to: a decimal number. */
const NUMBER = /^-?\d+$/;

/**
 * @param {string} name
 * @returns {Bucket}
 */
export function openBucket(name) {
    const { stores } = recording();
    if (!stores) {
        throw new KeyValueError("the manifest grants no key-value store: add keyvalue = true to [grant]");
    }
    const content = stores.get(name) ?? new Map();
    stores.set(name, content);
    return bucketOf(content);
}

/**
 * @param {Content} content
 * @returns {Bucket}
 */
export function bucketOf(content) {
    return {
        get: (key) => content.get(checkedKey(key))?.slice(),
        set: (key, value) => void content.set(checkedKey(key), checkedValue(value).slice()),
        delete: (key) => void content.delete(checkedKey(key)),
        exists: (key) => content.has(checkedKey(key)),
        page: () => ({ keys: [...content.keys()].sort(byBytes), cursor: undefined }),
        increment(key, delta) {
            const text = Buffer.from(content.get(checkedKey(key)) ?? Buffer.from("0")).toString();
            if (!NUMBER.test(text)) {
                throw new KeyValueError(`the value of ${JSON.stringify(key)} is not a number`);
            }
            const sum = Number(text) + delta;
            content.set(key, Buffer.from(String(sum)));
            return sum;
        },
        compareAndSet(key, expected, value) {
            const current = content.get(checkedKey(key));
            const isExpected = current && expected ? Buffer.compare(current, expected) === 0 : current === expected;
            if (isExpected) {
                content.set(key, checkedValue(value).slice());
            }
            return isExpected;
        },
        getMany: (keys) => checkedKeys(keys).map((key) => content.get(key)?.slice()),
        setMany(entries) {
            checkedKeys(entries.map(([key, value]) => (checkedValue(value), key)));
            entries.forEach(([key, value]) => content.set(key, value.slice()));
        },
        deleteMany: (keys) => checkedKeys(keys).forEach((key) => content.delete(key)),
    };
}

/** @param {string} key */
function checkedKey(key) {
    const bytes = Buffer.byteLength(key);
    if (bytes < 1 || bytes > KEY_BYTES_MAX) {
        throw new KeyValueError(`a key of ${bytes} bytes does not have 1 to ${KEY_BYTES_MAX}`);
    }
    return key;
}

/** @param {string[]} keys */
function checkedKeys(keys) {
    if (keys.length > KEYS_MAX) {
        throw new KeyValueError(`${keys.length} keys in one call are more than ${KEYS_MAX}`);
    }
    return keys.map(checkedKey);
}

/** @param {Uint8Array} value */
function checkedValue(value) {
    if (value.length > VALUE_BYTES_MAX) {
        throw new KeyValueError(`a value of ${value.length} bytes is more than ${VALUE_BYTES_MAX}`);
    }
    return value;
}

/**
 * @param {string} one
 * @param {string} other
 */
function byBytes(one, other) {
    return Buffer.compare(Buffer.from(one), Buffer.from(other));
}
