/**
 * `Blob`: bytes with a media type.
 *
 * @module
 */

import { encode } from "../../text.js";
import { ReadableStream } from "./stream.js";

export class Blob {
    /**
     * @param {Iterable<string | Blob | ArrayBuffer | ArrayBufferView>} [parts]
     * @param {{ type?: string }} [options]
     */
    constructor(parts = [], { type = "" } = {}) {
        const pieces = Array.from(parts, pieceOf);
        /** @internal */
        this.content = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
        let at = 0;
        for (const piece of pieces) {
            this.content.set(piece, at);
            at += piece.length;
        }
        this.type = String(type).toLowerCase();
    }

    get size() {
        return this.content.length;
    }

    async bytes() {
        return this.content.slice();
    }

    async arrayBuffer() {
        return this.content.slice().buffer;
    }

    async text() {
        return new TextDecoder().decode(this.content);
    }

    /**
     * @param {number} [start]
     * @param {number} [end]
     * @param {string} [type]
     */
    slice(start, end, type = "") {
        return new Blob([this.content.slice(start, end)], { type });
    }

    stream() {
        return ReadableStream.from([this.content.slice()]);
    }
}

/**
 * @param {string | Blob | ArrayBuffer | ArrayBufferView} part
 * @returns {Uint8Array}
 */
function pieceOf(part) {
    if (part instanceof Blob) {
        return part.content;
    }
    if (part instanceof ArrayBuffer) {
        return new Uint8Array(part);
    }
    if (ArrayBuffer.isView(part)) {
        return new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
    }
    return encode(String(part));
}
