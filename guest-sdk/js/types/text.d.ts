/**
 * Decodes UTF-8, a byte-order mark included.
 *
 * @param {Uint8Array} bytes
 * @returns {string}
 */
export function decode(bytes: Uint8Array): string;
/**
 * @param {string} text
 * @returns {Uint8Array}
 */
export function encode(text: string): Uint8Array;
/**
 * Returns how many bytes from the start are UTF-8.
 *
 * @param {Uint8Array} bytes
 * @returns {number}
 */
export function validUpTo(bytes: Uint8Array): number;
