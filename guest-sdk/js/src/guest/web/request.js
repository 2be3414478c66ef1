/**
 * `Request`: what `fetch` asks for.
 *
 * @module
 */

import { AbortSignal } from "./abort.js";
import { Body, contentOf } from "./body.js";
import { Headers } from "./headers.js";
import { URL } from "./url.js";

/** Methods that are meant in capitals however they are written; others are sent as they are. */
const KNOWN = new Set(["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"]);
const METHOD = /^[!#$%&'*+\-.^_`|~\w]+$/;
const REFUSED = new Set(["CONNECT", "TRACE", "TRACK"]);

/**
 * @typedef {object} RequestInit
 * @property {string} [method]
 * @property {any} [headers]
 * @property {any} [body]
 * @property {"follow" | "manual" | "error"} [redirect]
 * @property {AbortSignal | null} [signal]
 */

export class Request extends Body {
    /** @type {string} */
    method;
    /** @type {string} */
    url;
    /** @type {Headers} */
    headers;
    /** @type {"follow" | "manual" | "error"} */
    redirect;
    /** @type {AbortSignal} */
    signal;

    /**
     * @param {Request | URL | string} input
     * @param {RequestInit} [init]
     */
    constructor(input, init = {}) {
        /** @type {Request | undefined} */
        const from = input instanceof Request ? input : undefined;
        const method = methodOf(init.method ?? from?.method ?? "GET");
        const hasBody = init.body !== undefined && init.body !== null;
        if (hasBody && (method === "GET" || method === "HEAD")) {
            throw new TypeError(`a ${method} request has no body`);
        }
        const headers = new Headers(init.headers ?? from?.headers);
        const content = hasBody || !from ? contentOf(init.body) : taken(from);
        if (content.type && !headers.has("content-type")) {
            headers.set("content-type", content.type);
        }
        super(content, headers.get("content-type") ?? "");
        this.method = method;
        this.url = from?.url ?? addressOf(input);
        this.headers = headers;
        this.redirect = init.redirect ?? from?.redirect ?? "follow";
        this.signal = init.signal ?? from?.signal ?? new AbortSignal();
    }

    clone() {
        const { bytes, stream } = this.copied();
        const { method, headers, redirect, signal } = this;
        return new Request(this.url, { method, headers, redirect, signal, body: bytes ?? stream });
    }

    get [Symbol.toStringTag]() {
        return "Request";
    }
}

/** @param {string} method */
function methodOf(method) {
    const capitals = method.toUpperCase();
    if (!METHOD.test(method) || REFUSED.has(capitals)) {
        throw new TypeError(`${JSON.stringify(method)} is no method that can be used`);
    }
    return KNOWN.has(capitals) ? capitals : method;
}

/**
 * Returns an address without its query, which is often secret: the text of an error is in logs and dead letters.
 *
 * @param {string} address
 */
export function bare(address) {
    return address.replace(/[?#].*$/s, "").replace(/\/\/[^/]*@/, "//");
}

/** @param {unknown} input */
function addressOf(input) {
    const text = String(input);
    const url = parsed(text);
    if (url.username || url.password) {
        throw new TypeError("a URL of fetch has no user name and no password: send a header authorization");
    }
    return url.href;
}

/**
 * @param {string} text
 * @returns {URL}
 */
function parsed(text) {
    try {
        return new URL(text);
    } catch {
        // Not as the cause: its text has the whole address.
        throw new TypeError(`${JSON.stringify(bare(text))} is no URL`);
    }
}

/**
 * @param {Request} request
 * @returns {import("./body.js").Content}
 */
function taken(request) {
    const content = request.take();
    return content instanceof Uint8Array
        ? { bytes: content, stream: undefined, type: undefined }
        : { bytes: undefined, stream: content, type: undefined };
}
