/**
 * TextEncoder and TextDecoder for UTF-8. The engine has neither, and code of its own would take a tenth of a second for a
 * large body, so the loops are the engine's: base64 turns bytes into characters, and URI encoding characters into text.
 *
 * @module
 */

import { validUpTo } from "../text.js";

/** A character that is more than one byte in UTF-8. */
const NOT_ASCII = /[^\0-\x7f]/;
const MARK = "\ufeff";
const REPLACEMENT = "\ufffd";

/** `TextEncoder`. */
export class Encoder {
    get encoding() {
        return "utf-8";
    }

    /** @param {unknown} [text] */
    encode(text = "") {
        const whole = String(text).toWellFormed();
        const characters = NOT_ASCII.test(whole) ? unescape(encodeURIComponent(whole)) : whole;
        return /** @type {any} */ (Uint8Array).fromBase64(btoa(characters));
    }
}

/** `TextDecoder`, for UTF-8 only and without `stream`. */
export class Decoder {
    /**
     * @param {string} [label]
     * @param {{ fatal?: boolean, ignoreBOM?: boolean }} [options]
     */
    constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
        if (!/^\s*utf-?8\s*$/i.test(label)) {
            throw new RangeError(`there is no decoder for ${label}, only for utf-8`);
        }
        this.fatal = fatal;
        this.ignoreBOM = ignoreBOM;
    }

    get encoding() {
        return "utf-8";
    }

    /** @param {ArrayBuffer | ArrayBufferView} [input] */
    decode(input = new Uint8Array()) {
        const bytes = ArrayBuffer.isView(input)
            ? new Uint8Array(input.buffer, input.byteOffset, input.byteLength)
            : new Uint8Array(input);
        const text = this.fatal ? strict(bytes) : lossy(bytes);
        return this.ignoreBOM || !text.startsWith(MARK) ? text : text.slice(1);
    }
}

/** @param {Uint8Array} bytes */
function strict(bytes) {
    const characters = atob(/** @type {any} */ (bytes).toBase64());
    if (!NOT_ASCII.test(characters)) {
        return characters;
    }
    try {
        return decodeURIComponent(escape(characters));
    } catch {
        throw new TypeError("the bytes are not UTF-8");
    }
}

/** @param {Uint8Array} bytes */
function lossy(bytes) {
    try {
        return strict(bytes);
    } catch {
        const parts = [];
        for (let rest = bytes; rest.length > 0; ) {
            const end = validUpTo(rest);
            parts.push(strict(rest.subarray(0, end)));
            const bad = end < rest.length ? badAt(rest, end) : 0;
            parts.push(bad > 0 ? REPLACEMENT : "");
            rest = rest.subarray(end + bad);
        }
        return parts.join("");
    }
}

/**
 * Returns how many bytes one replacement stands for: the longest start of a sequence that could have become valid.
 *
 * @param {Uint8Array} bytes
 * @param {number} at
 */
function badAt(bytes, at) {
    let end = at + 1;
    while (end < bytes.length && couldContinue(bytes.subarray(at, end + 1))) {
        end += 1;
    }
    return end - at;
}

/**
 * Whether two or three bytes are the start of a longer sequence.
 *
 * @param {Uint8Array} start
 */
function couldContinue(start) {
    return [3, 4].some((length) => {
        const whole = new Uint8Array(length).fill(0x80);
        whole.set(start.subarray(0, length));
        return start.length < length && validUpTo(whole) === length;
    });
}
