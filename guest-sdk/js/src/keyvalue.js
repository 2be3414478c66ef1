/**
 * The key-value store of a handler.
 *
 * @module
 */

import { openBucket } from "#keyvalue";
import { KeyValueError } from "./keyvalue-error.js";
import { encode } from "./text.js";

/**
 * What the host and the double for tests do.
 *
 * @internal
 * @typedef {object} Bucket
 * @property {(key: string) => Uint8Array | undefined} get
 * @property {(key: string, value: Uint8Array) => void} set
 * @property {(key: string) => void} delete
 * @property {(key: string) => boolean} exists
 * @property {(cursor: string | undefined) => { keys: string[], cursor: string | undefined }} page
 * @property {(key: string, delta: number) => number} increment
 * @property {(key: string, expected: Uint8Array | undefined, value: Uint8Array) => boolean} compareAndSet
 * @property {(keys: string[]) => (Uint8Array | undefined)[]} getMany In the order of the keys.
 * @property {(entries: [string, Uint8Array][]) => void} setMany
 * @property {(keys: string[]) => void} deleteMany
 */

/**
 * A store of keys and values. It belongs to the handler, and stays from message to message.
 *
 * What an attempt writes is a part of it: one transaction with the deletion of the message. It is dropped if the attempt fails.
 * The attempt reads its own writes at once, nobody else does before.
 */
export class KeyValueStore {
    #open;

    /**
     * @internal
     * @param {() => Bucket} open
     */
    constructor(open) {
        this.#open = open;
    }

    /**
     * Returns the value of a key, nothing if there is none.
     *
     * @param {string} key 1 to 1024 bytes.
     * @returns {Uint8Array | undefined}
     * @throws {KeyValueError}
     */
    get(key) {
        return this.#open().get(key.toWellFormed());
    }

    /**
     * Returns the value of a key as text.
     *
     * @param {string} key
     * @returns {string | undefined}
     * @throws {KeyValueError} also if it is not UTF-8.
     */
    getText(key) {
        const value = this.get(key);
        try {
            return value && new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(value);
        } catch (cause) {
            throw new KeyValueError(`the value of ${JSON.stringify(key)} is not text`);
        }
    }

    /**
     * Returns the value of a key that is JSON.
     *
     * @param {string} key
     * @returns {any} `undefined` if there is none.
     * @throws {KeyValueError} also if it is not JSON.
     */
    getJson(key) {
        const text = this.getText(key);
        try {
            return text === undefined ? undefined : JSON.parse(text);
        } catch (cause) {
            throw new KeyValueError(`the value of ${JSON.stringify(key)} is not JSON`);
        }
    }

    /**
     * Gives a key a value. The last attempt that commits one wins.
     *
     * @param {string} key
     * @param {string | Uint8Array} value Text or bytes, up to 1 MiB.
     * @throws {KeyValueError}
     */
    set(key, value) {
        this.#open().set(key.toWellFormed(), bytesOf(value));
    }

    /**
     * Gives a key the JSON of a value.
     *
     * @param {string} key
     * @param {unknown} value
     * @throws {KeyValueError}
     */
    setJson(key, value) {
        const text = JSON.stringify(value);
        if (text === undefined) {
            throw new TypeError(`a ${typeof value} has no JSON form`);
        }
        this.set(key, text);
    }

    /**
     * Deletes a key, whether it is there or not.
     *
     * @param {string} key
     * @throws {KeyValueError}
     */
    delete(key) {
        this.#open().delete(key.toWellFormed());
    }

    /**
     * @param {string} key
     * @returns {boolean}
     * @throws {KeyValueError}
     */
    exists(key) {
        return this.#open().exists(key.toWellFormed());
    }

    /**
     * Goes through the keys, in the order of their bytes. The host passes them on by the thousand.
     *
     * @param {{ prefix?: string }} [options] `prefix`: only keys that begin with it.
     * @returns {Generator<string, void, undefined>}
     * @throws {KeyValueError}
     */
    *keys({ prefix = "" } = {}) {
        const bucket = this.#open();
        for (let cursor; ; ) {
            const page = bucket.page(cursor);
            yield* page.keys.filter((key) => key.startsWith(prefix));
            cursor = page.cursor;
            if (cursor === undefined) {
                return;
            }
        }
    }

    /**
     * Adds to a number and returns the sum. A key that is not there counts as 0. Attempts that do so at the same time lose
     * nothing.
     *
     * @param {string} key
     * @param {number} [delta] A whole number, which may be negative; 1 if absent.
     * @returns {number}
     * @throws {KeyValueError} also if the value is no number.
     */
    increment(key, delta = 1) {
        if (!Number.isSafeInteger(delta)) {
            throw new TypeError(`${delta} is no whole number`);
        }
        return this.#open().increment(key.toWellFormed(), delta);
    }

    /**
     * Gives a key a value if it has another one now, and says whether it did.
     *
     * That is decided by what this attempt sees. If another attempt has changed the key by the time of the commit, nothing of
     * this attempt happens, and its message is tried again.
     *
     * @param {string} key
     * @param {string | Uint8Array | undefined} expected What the key must have; nothing if it must not be there.
     * @param {string | Uint8Array} value
     * @returns {boolean} `false` if the key has another value.
     * @throws {KeyValueError}
     */
    compareAndSet(key, expected, value) {
        const before = expected === undefined ? undefined : bytesOf(expected);
        return this.#open().compareAndSet(key.toWellFormed(), before, bytesOf(value));
    }

    /**
     * Returns the values of keys, of those that are there.
     *
     * @param {Iterable<string>} keys 1000 at most.
     * @returns {Map<string, Uint8Array>}
     * @throws {KeyValueError}
     */
    getMany(keys) {
        const asked = Array.from(keys, (key) => key.toWellFormed());
        const values = this.#open().getMany(asked);
        /** @type {[string, Uint8Array][]} */
        const found = asked.flatMap((key, index) => {
            const value = values[index];
            return value ? [/** @type {[string, Uint8Array]} */ ([key, value])] : [];
        });
        return new Map(found);
    }

    /**
     * Gives keys values, all of them or, on an error, none.
     *
     * @param {Iterable<[string, string | Uint8Array]> | Record<string, string | Uint8Array>} entries 1000 at most.
     * @throws {KeyValueError}
     */
    setMany(entries) {
        const pairs = Symbol.iterator in entries ? [.../** @type {Iterable<[string, any]>} */ (entries)] : Object.entries(entries);
        this.#open().setMany(pairs.map(([key, value]) => [key.toWellFormed(), bytesOf(value)]));
    }

    /**
     * Deletes keys.
     *
     * @param {Iterable<string>} keys 1000 at most.
     * @throws {KeyValueError}
     */
    deleteMany(keys) {
        this.#open().deleteMany(Array.from(keys, (key) => key.toWellFormed()));
    }
}

/**
 * The key-value stores that the manifest grants: `[grant] keyvalue = true`.
 *
 * @example
 * const seen = keyvalue.open("seen");
 *
 * export default function handle(message) {
 *     if (seen.exists(message.id)) {
 *         return;
 *     }
 *     seen.set(message.id, "");
 * }
 */
export const keyvalue = {
    /**
     * Returns a store, which need not have been there before. It can be opened at the top level of a module.
     *
     * @param {string} [name] Up to 256 bytes; `default` if absent.
     * @returns {KeyValueStore}
     */
    open(name = "default") {
        const bucket = name.toWellFormed();
        return new KeyValueStore(() => openBucket(bucket));
    },
};

/**
 * @param {string | Uint8Array} value
 * @returns {Uint8Array}
 */
function bytesOf(value) {
    if (typeof value === "string") {
        return encode(value);
    }
    if (value instanceof Uint8Array) {
        return value;
    }
    throw new TypeError("a value is neither text nor a Uint8Array; for others there is setJson");
}
