/**
 * Typed values that travel beside a message's body.
 *
 * @module
 */

const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;

/**
 * A decimal number in text form, such as `-12.50`. It stays text so that no digit is lost on the way.
 *
 * It converts by itself where a number is wanted: `total * width` works, and so does `Number(width)`.
 */
export class Decimal {
    /**
     * @param {string} digits Such as `-12.50`.
     */
    constructor(digits) {
        if (!DECIMAL.test(digits)) {
            throw new TypeError(`${JSON.stringify(digits)} is not a decimal number`);
        }
        /**
         * The number as it was written.
         *
         * @readonly
         * @type {string}
         */
        this.digits = digits;
    }

    /** Returns the nearest number that JavaScript has. */
    valueOf() {
        return Number(this.digits);
    }

    /** Returns the number as it was written. */
    toString() {
        return this.digits;
    }

    /** Returns the nearest number that JavaScript has, for `JSON.stringify`. */
    toJSON() {
        return Number(this.digits);
    }
}

/**
 * Makes a number attribute from its digits.
 *
 * @example
 * send("prices", { body: "spade", attributes: { price: decimal("12.50") } });
 *
 * @param {string | number | bigint} digits Such as `-12.50`.
 * @returns {Decimal}
 */
export function decimal(digits) {
    return new Decimal(String(digits));
}

/**
 * A value of a message attribute: text, a number or bytes.
 *
 * @typedef {string | Decimal | Uint8Array} AttributeValue
 */

/**
 * What can be sent as an attribute. An integer becomes a {@link Decimal}; other numbers have to be one already, since the
 * digits of `0.1 + 0.2` are seldom those that are meant.
 *
 * @typedef {AttributeValue | number | bigint} AttributeInput
 */

/**
 * @internal
 * @typedef {{ tag: "text", val: string } | { tag: "number", val: string } | { tag: "binary", val: Uint8Array }} WitAttribute
 */

/**
 * Turns what a program wrote into one of the three kinds.
 *
 * @internal
 * @param {string} name
 * @param {AttributeInput} value
 * @returns {AttributeValue}
 */
export function attributeOf(name, value) {
    if (typeof value === "string" || value instanceof Decimal || value instanceof Uint8Array) {
        return value;
    }
    if (typeof value === "bigint" || Number.isSafeInteger(value)) {
        return decimal(value);
    }
    if (typeof value === "number") {
        throw new TypeError(`attribute ${JSON.stringify(name)}: write the digits that are meant, as decimal("${value}")`);
    }
    throw new TypeError(`attribute ${JSON.stringify(name)} is not text, an integer, a Decimal or a Uint8Array`);
}

/**
 * @internal
 * @param {AttributeValue} value
 * @returns {WitAttribute}
 */
export function toWit(value) {
    if (typeof value === "string") {
        return { tag: "text", val: value.toWellFormed() };
    }
    if (value instanceof Decimal) {
        return { tag: "number", val: value.digits };
    }
    return { tag: "binary", val: value };
}

/**
 * @internal
 * @param {WitAttribute} value
 * @returns {AttributeValue}
 */
export function fromWit(value) {
    return value.tag === "number" ? new Decimal(value.val) : value.val;
}
