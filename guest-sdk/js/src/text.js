/**
 * Bytes and text.
 *
 * @module
 */

import { Reject } from "./failure.js";

/**
 * Decodes UTF-8, a byte-order mark included.
 *
 * @param {Uint8Array} bytes
 * @returns {string}
 */
export function decode(bytes) {
    try {
        return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
        throw new Reject(`the body is not text: invalid UTF-8 at byte ${validUpTo(bytes)}`);
    }
}

/**
 * @param {string} text
 * @returns {Uint8Array}
 */
export function encode(text) {
    return new TextEncoder().encode(text);
}

/**
 * Returns how many bytes from the start are UTF-8.
 *
 * @param {Uint8Array} bytes
 * @returns {number}
 */
export function validUpTo(bytes) {
    let at = 0;
    while (at < bytes.length) {
        const length = sequenceAt(bytes, at);
        if (length === 0) {
            break;
        }
        at += length;
    }
    return at;
}

/**
 * Returns the length of the UTF-8 sequence that starts here; 0 if there is none.
 *
 * @param {Uint8Array} bytes
 * @param {number} at
 * @returns {0 | 1 | 2 | 3 | 4}
 */
function sequenceAt(bytes, at) {
    const [first, second] = [bytes[at], bytes[at + 1]];
    /** @param {number} offset */
    const continues = (offset) => (bytes[at + offset] & 0xc0) === 0x80;
    if (first < 0x80) {
        return 1;
    }
    if (first >= 0xc2 && first < 0xe0) {
        return continues(1) ? 2 : 0;
    }
    if (first >= 0xe0 && first < 0xf0) {
        // Neither a longer form than needed nor a surrogate.
        const shortest = first === 0xe0 ? second >= 0xa0 : first === 0xed ? second < 0xa0 : true;
        return continues(1) && continues(2) && shortest ? 3 : 0;
    }
    if (first >= 0xf0 && first < 0xf5) {
        const inRange = first === 0xf0 ? second >= 0x90 : first === 0xf4 ? second < 0x90 : true;
        return continues(1) && continues(2) && continues(3) && inRange ? 4 : 0;
    }
    return 0;
}
