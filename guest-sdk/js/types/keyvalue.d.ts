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
    /**
     * @internal
     * @param {() => Bucket} open
     */
    constructor(open: () => Bucket);
    /**
     * Returns the value of a key, nothing if there is none.
     *
     * @param {string} key 1 to 1024 bytes.
     * @returns {Uint8Array | undefined}
     * @throws {KeyValueError}
     */
    get(key: string): Uint8Array | undefined;
    /**
     * Returns the value of a key as text.
     *
     * @param {string} key
     * @returns {string | undefined}
     * @throws {KeyValueError} also if it is not UTF-8.
     */
    getText(key: string): string | undefined;
    /**
     * Returns the value of a key that is JSON.
     *
     * @param {string} key
     * @returns {any} `undefined` if there is none.
     * @throws {KeyValueError} also if it is not JSON.
     */
    getJson(key: string): any;
    /**
     * Gives a key a value. The last attempt that commits one wins.
     *
     * @param {string} key
     * @param {string | Uint8Array} value Text or bytes, up to 1 MiB.
     * @throws {KeyValueError}
     */
    set(key: string, value: string | Uint8Array): void;
    /**
     * Gives a key the JSON of a value.
     *
     * @param {string} key
     * @param {unknown} value
     * @throws {KeyValueError}
     */
    setJson(key: string, value: unknown): void;
    /**
     * Deletes a key, whether it is there or not.
     *
     * @param {string} key
     * @throws {KeyValueError}
     */
    delete(key: string): void;
    /**
     * @param {string} key
     * @returns {boolean}
     * @throws {KeyValueError}
     */
    exists(key: string): boolean;
    /**
     * Goes through the keys, in the order of their bytes. The host passes them on by the thousand.
     *
     * @param {{ prefix?: string }} [options] `prefix`: only keys that begin with it.
     * @returns {Generator<string, void, undefined>}
     * @throws {KeyValueError}
     */
    keys({ prefix }?: {
        prefix?: string;
    }): Generator<string, void, undefined>;
    /**
     * Adds to a number and returns the sum. A key that is not there counts as 0. Attempts that do so at the same time lose
     * nothing.
     *
     * @param {string} key
     * @param {number} [delta] A whole number, which may be negative; 1 if absent.
     * @returns {number}
     * @throws {KeyValueError} also if the value is no number.
     */
    increment(key: string, delta?: number): number;
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
    compareAndSet(key: string, expected: string | Uint8Array | undefined, value: string | Uint8Array): boolean;
    /**
     * Returns the values of keys, of those that are there.
     *
     * @param {Iterable<string>} keys 1000 at most.
     * @returns {Map<string, Uint8Array>}
     * @throws {KeyValueError}
     */
    getMany(keys: Iterable<string>): Map<string, Uint8Array>;
    /**
     * Gives keys values, all of them or, on an error, none.
     *
     * @param {Iterable<[string, string | Uint8Array]> | Record<string, string | Uint8Array>} entries 1000 at most.
     * @throws {KeyValueError}
     */
    setMany(entries: Iterable<[string, string | Uint8Array]> | Record<string, string | Uint8Array>): void;
    /**
     * Deletes keys.
     *
     * @param {Iterable<string>} keys 1000 at most.
     * @throws {KeyValueError}
     */
    deleteMany(keys: Iterable<string>): void;
    #private;
}
export namespace keyvalue {
    /**
     * Returns a store, which need not have been there before. It can be opened at the top level of a module.
     *
     * @param {string} [name] Up to 256 bytes; `default` if absent.
     * @returns {KeyValueStore}
     */
    function open(name?: string): KeyValueStore;
}
/**
 * What the host and the double for tests do.
 */
export type Bucket = {
    get: (key: string) => Uint8Array | undefined;
    set: (key: string, value: Uint8Array) => void;
    delete: (key: string) => void;
    exists: (key: string) => boolean;
    page: (cursor: string | undefined) => {
        keys: string[];
        cursor: string | undefined;
    };
    increment: (key: string, delta: number) => number;
    compareAndSet: (key: string, expected: Uint8Array | undefined, value: Uint8Array) => boolean;
    /**
     * In the order of the keys.
     */
    getMany: (keys: string[]) => (Uint8Array | undefined)[];
    setMany: (entries: [string, Uint8Array][]) => void;
    deleteMany: (keys: string[]) => void;
};
