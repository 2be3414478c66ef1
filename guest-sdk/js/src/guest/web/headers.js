/**
 * `Headers`: the fields of a request or a response.
 *
 * @module
 */

const NAME = /^[!#$%&'*+\-.^_`|~\w]+$/;
const NOT_A_VALUE = /[\0\r\n]|[^\0-\xff]/;
const AROUND = /^[\t\n\r ]+|[\t\n\r ]+$/g;

export class Headers {
    /** @type {Map<string, string[]>} By names in lower case. */
    #fields = new Map();

    /** @param {Headers | Iterable<[string, string]> | Record<string, string>} [init] */
    constructor(init = {}) {
        const pairs = typeof (/** @type {any} */ (init)[Symbol.iterator]) === "function" ? init : Object.entries(init);
        for (const [name, value] of /** @type {Iterable<[string, string]>} */ (pairs)) {
            this.append(name, value);
        }
    }

    /**
     * @param {string} name
     * @param {unknown} value
     */
    append(name, value) {
        const key = keyOf(name);
        this.#fields.set(key, [...(this.#fields.get(key) ?? []), valueOf(name, value)]);
    }

    /**
     * @param {string} name
     * @param {unknown} value
     */
    set(name, value) {
        this.#fields.set(keyOf(name), [valueOf(name, value)]);
    }

    /** @param {string} name */
    get(name) {
        return this.#fields.get(keyOf(name))?.join(", ") ?? null;
    }

    /** @param {string} name */
    has(name) {
        return this.#fields.has(keyOf(name));
    }

    /** @param {string} name */
    delete(name) {
        this.#fields.delete(keyOf(name));
    }

    getSetCookie() {
        return [...(this.#fields.get("set-cookie") ?? [])];
    }

    /**
     * @param {(value: string, name: string, headers: Headers) => void} each
     * @param {unknown} [self]
     */
    forEach(each, self) {
        for (const [name, value] of this) {
            each.call(self, value, name, this);
        }
    }

    *keys() {
        for (const [name] of this) {
            yield name;
        }
    }

    *values() {
        for (const [, value] of this) {
            yield value;
        }
    }

    /** @returns {Generator<[string, string]>} In the order of the names; each cookie by itself. */
    *entries() {
        for (const name of [...this.#fields.keys()].sort()) {
            const values = /** @type {string[]} */ (this.#fields.get(name));
            for (const value of name === "set-cookie" ? values : [values.join(", ")]) {
                yield [name, value];
            }
        }
    }

    [Symbol.iterator]() {
        return this.entries();
    }

    get [Symbol.toStringTag]() {
        return "Headers";
    }
}

/** @param {string} name */
function keyOf(name) {
    if (!NAME.test(name)) {
        throw new TypeError(`${JSON.stringify(String(name))} is no name of a header`);
    }
    return String(name).toLowerCase();
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function valueOf(name, value) {
    const text = String(value).replace(AROUND, "");
    if (NOT_A_VALUE.test(text)) {
        throw new TypeError(`the value of the header ${name} has a character that a header can't have`);
    }
    return text;
}
