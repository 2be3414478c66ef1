/**
 * Makes a number attribute from its digits.
 *
 * @example
 * send("prices", { body: "spade", attributes: { price: decimal("12.50") } });
 *
 * @param {string | number | bigint} digits Such as `-12.50`.
 * @returns {Decimal}
 */
export function decimal(digits: string | number | bigint): Decimal;
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
export function attributeOf(name: string, value: AttributeInput): AttributeValue;
/**
 * @internal
 * @param {AttributeValue} value
 * @returns {WitAttribute}
 */
export function toWit(value: AttributeValue): WitAttribute;
/**
 * @internal
 * @param {WitAttribute} value
 * @returns {AttributeValue}
 */
export function fromWit(value: WitAttribute): AttributeValue;
/**
 * A decimal number in text form, such as `-12.50`. It stays text so that no digit is lost on the way.
 *
 * It converts by itself where a number is wanted: `total * width` works, and so does `Number(width)`.
 */
export class Decimal {
    /**
     * @param {string} digits Such as `-12.50`.
     */
    constructor(digits: string);
    /**
     * The number as it was written.
     *
     * @readonly
     * @type {string}
     */
    readonly digits: string;
    /** Returns the nearest number that JavaScript has. */
    valueOf(): number;
    /** Returns the number as it was written. */
    toString(): string;
    /** Returns the nearest number that JavaScript has, for `JSON.stringify`. */
    toJSON(): number;
}
/**
 * A value of a message attribute: text, a number or bytes.
 */
export type AttributeValue = string | Decimal | Uint8Array;
/**
 * What can be sent as an attribute. An integer becomes a {@link Decimal}; other numbers have to be one already, since the
 * digits of `0.1 + 0.2` are seldom those that are meant.
 */
export type AttributeInput = AttributeValue | number | bigint;
export type WitAttribute = {
    tag: "text";
    val: string;
} | {
    tag: "number";
    val: string;
} | {
    tag: "binary";
    val: Uint8Array;
};
