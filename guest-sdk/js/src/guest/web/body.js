/**
 * The body of a request or a response.
 *
 * @module
 */

import { encode } from "../../text.js";
import { Blob } from "./blob.js";
import { ReadableStream } from "./stream.js";
import { URLSearchParams } from "./url.js";

/** @typedef {{ bytes: Uint8Array | undefined, stream: ReadableStream | undefined, type: string | undefined }} Content */

/** What `Request` and `Response` have in common. */
export class Body {
    /** @type {Uint8Array | undefined} The body, if it is known as a whole. */
    #bytes;
    /** @type {ReadableStream | undefined} */
    #stream;
    #used = false;
    /** @type {string} */
    #type;

    /**
     * @param {Content} content
     * @param {string} type The media type of its headers.
     */
    constructor({ bytes, stream }, type) {
        this.#bytes = bytes;
        this.#stream = stream;
        this.#type = type;
    }

    get body() {
        if (this.#bytes && !this.#stream) {
            const bytes = this.#bytes;
            this.#stream = ReadableStream.from(bytes.length > 0 ? [bytes] : []);
            this.#bytes = undefined;
        }
        return this.#stream ?? null;
    }

    get bodyUsed() {
        return this.#used || (this.#stream?.wasRead ?? false);
    }

    /**
     * Returns the body, which can't be read a second time.
     *
     * @internal
     * @returns {Uint8Array | ReadableStream | undefined}
     */
    take() {
        const content = this.#bytes ?? this.#stream;
        if (this.bodyUsed || this.#stream?.locked) {
            throw new TypeError("the body was read already");
        }
        this.#used = content !== undefined;
        return content;
    }

    /**
     * Returns the body for a copy, and keeps it.
     *
     * @internal
     * @returns {Content}
     */
    copied() {
        if (this.bodyUsed || this.#stream?.locked) {
            throw new TypeError("the body was read already: there is nothing to copy");
        }
        if (!this.#stream) {
            return { bytes: this.#bytes, stream: undefined, type: undefined };
        }
        const [kept, copy] = this.#stream.tee();
        this.#stream = kept;
        return { bytes: undefined, stream: copy, type: undefined };
    }

    async bytes() {
        const content = this.take();
        return content instanceof ReadableStream ? joined(content) : (content?.slice() ?? new Uint8Array());
    }

    async arrayBuffer() {
        return (await this.bytes()).buffer;
    }

    async text() {
        return new TextDecoder().decode(await this.bytes());
    }

    async json() {
        return JSON.parse(await this.text());
    }

    async blob() {
        return new Blob([await this.bytes()], { type: this.#type });
    }

    async formData() {
        throw new TypeError("there is no FormData here");
    }
}

/**
 * Returns what a body is made of, as `fetch` takes it.
 *
 * @param {any} init
 * @returns {Content}
 */
export function contentOf(init) {
    if (init === undefined || init === null) {
        return { bytes: undefined, stream: undefined, type: undefined };
    }
    const whole = (/** @type {Uint8Array} */ bytes, /** @type {string} */ type = "") => ({
        bytes,
        stream: undefined,
        type: type || undefined,
    });
    if (init instanceof ArrayBuffer) {
        return whole(new Uint8Array(init.slice(0)));
    }
    if (ArrayBuffer.isView(init)) {
        return whole(new Uint8Array(init.buffer, init.byteOffset, init.byteLength).slice());
    }
    if (init instanceof Blob) {
        return whole(init.content, init.type);
    }
    if (init instanceof URLSearchParams) {
        return whole(encode(init.toString()), "application/x-www-form-urlencoded;charset=UTF-8");
    }
    if (init instanceof ReadableStream) {
        return { bytes: undefined, stream: init, type: undefined };
    }
    if (typeof init === "object" && (init[Symbol.asyncIterator] || init[Symbol.iterator])) {
        return { bytes: undefined, stream: ReadableStream.from(init), type: undefined };
    }
    return whole(encode(String(init)), "text/plain;charset=UTF-8");
}

/**
 * Returns a piece of a stream as bytes.
 *
 * @param {unknown} piece
 * @returns {Uint8Array}
 */
export function bytesOf(piece) {
    if (piece instanceof Uint8Array) {
        return piece;
    }
    if (typeof piece === "string") {
        return encode(piece);
    }
    throw new TypeError("a piece of a body is neither a Uint8Array nor text");
}

/** @param {ReadableStream} stream */
async function joined(stream) {
    const pieces = [];
    let length = 0;
    for await (const piece of stream) {
        const bytes = bytesOf(piece);
        pieces.push(bytes);
        length += bytes.length;
    }
    const whole = new Uint8Array(length);
    let at = 0;
    for (const piece of pieces) {
        whole.set(piece, at);
        at += piece.length;
    }
    return whole;
}
