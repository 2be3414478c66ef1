/**
 * Sends single requests over `wasi:http`.
 *
 * Every resource is dropped as soon as it is done with, children before their parents: the host counts the handles of an
 * attempt, and a response that is not dropped keeps its connection.
 *
 * @module
 */

import { handle } from "wasi:http/outgoing-handler@0.2.12";
import { Fields, OutgoingBody, OutgoingRequest, httpErrorCode } from "wasi:http/types@0.2.12";
import { atEnd, mustBeUnderWayToPromise } from "./attempt.js";
import { codeOf, fetchError } from "./http-error.js";
import { stopWaiting, whenReady } from "./loop.js";

/** @typedef {import("./web/fetch.js").Answer} Answer */
/** @typedef {import("./web/fetch.js").Hop} Hop */

const READ_BYTES_MAX = 65_536;
const METHODS = new Set(["get", "head", "post", "put", "delete", "connect", "options", "trace", "patch"]);
/** What belongs to the connection, which is the host's; the fields of a body follow from the body. */
const NOT_THE_GUESTS = new Set([
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
]);

/** Origins that have let a request of this attempt through. @type {Set<string>} */
const admitted = new Set();
/** @type {Set<Exchange>} */
const underWay = new Set();

/**
 * @param {Hop} hop
 * @returns {import("./web/fetch.js").Exchange}
 */
export function transport(hop) {
    mustBeUnderWayToPromise("network");
    return new Exchange(hop);
}

atEnd(() => {
    underWay.forEach((exchange) => exchange.drop());
    admitted.clear();
});

class Exchange {
    #hop;
    /** @type {Map<any, any>} What is held, in the order in which it came, with what waits for it. */
    #held = new Map();
    /** @type {Set<(reason: unknown) => void>} Ends the waits. */
    #waiting = new Set();
    /** @type {unknown} Why it has ended. */
    #reason;
    #ended = false;

    /** @param {Hop} hop */
    constructor(hop) {
        this.#hop = hop;
        underWay.add(this);
    }

    /** @returns {Promise<Answer>} */
    async answer() {
        const { upload, future } = this.#told(() => this.#start());
        if (upload) {
            // An error of the host is told by the response as well, and better; another one is that of the body's source.
            this.#write(upload).catch((error) => error?.payload || this.drop(error));
        }
        await this.#ready(future);
        this.#throwIfEnded();
        const { val: result } = future.get();
        this.#release(future);
        if (result.tag === "err") {
            throw this.#error(result.val);
        }
        admitted.add(this.#hop.url.origin);
        return this.#received(result.val);
    }

    /** @param {unknown} [reason] */
    drop(reason) {
        if (this.#ended) {
            return;
        }
        this.#ended = true;
        this.#reason = reason ?? new Error("the exchange has ended");
        underWay.delete(this);
        [...this.#held.keys()].reverse().forEach((resource) => this.#release(resource));
        this.#waiting.forEach((end) => end(this.#reason));
    }

    /** Throws the reason for which it has ended: what was held is gone, and must not be touched. */
    #throwIfEnded() {
        if (this.#ended) {
            throw this.#reason;
        }
    }

    /** Hands the head of the request to the host. */
    #start() {
        const { method, url, headers, body } = this.#hop;
        const fields = [...headers].filter(([name]) => !NOT_THE_GUESTS.has(name));
        if (body instanceof Uint8Array) {
            fields.push(["content-length", String(body.length)]);
        } else if (!body && (method === "POST" || method === "PUT")) {
            fields.push(["content-length", "0"]);
        }
        const request = new OutgoingRequest(Fields.fromList(fields.map(([name, value]) => [name, latin1Bytes(value)])));
        const known = method.toLowerCase();
        request.setMethod(METHODS.has(known) ? { tag: known } : { tag: "other", val: method });
        request.setScheme({ tag: url.protocol === "https:" ? "HTTPS" : "HTTP" });
        request.setAuthority(url.host);
        request.setPathWithQuery(url.pathname + url.search);
        const upload = body && this.#hold(request.body());
        return { upload, future: this.#hold(handle(request, null)) };
    }

    /**
     * Sends the body.
     *
     * @param {any} upload
     */
    async #write(upload) {
        const stream = this.#hold(upload.write());
        const { body } = this.#hop;
        for await (const bytes of body instanceof Uint8Array ? [body] : /** @type {AsyncIterable<Uint8Array>} */ (body)) {
            for (let at = 0; at < bytes.length; ) {
                const room = await this.#roomIn(stream);
                stream.write(bytes.subarray(at, at + room));
                at += room;
            }
        }
        stream.flush();
        await this.#roomIn(stream);
        this.#release(stream);
        this.#held.delete(upload);
        OutgoingBody.finish(upload, null);
    }

    /**
     * Returns how many bytes can be written, once it is one at least.
     *
     * @param {any} stream
     * @returns {Promise<number>}
     */
    async #roomIn(stream) {
        for (;;) {
            this.#throwIfEnded();
            const room = Number(stream.checkWrite());
            if (room > 0) {
                return room;
            }
            await this.#ready(stream);
        }
    }

    /**
     * @param {any} response
     * @returns {Answer}
     */
    #received(response) {
        this.#hold(response);
        const status = response.status();
        const fields = response.headers();
        const headers = fields.entries().map((/** @type {[string, Uint8Array]} */ [name, value]) => [name, latin1Text(value)]);
        fields[Symbol.dispose]();
        const body = this.#hold(response.consume());
        const stream = this.#hold(body.stream());
        return { status, headers, read: () => this.#read(stream) };
    }

    /**
     * @param {any} stream
     * @returns {Promise<Uint8Array | undefined>}
     */
    async #read(stream) {
        for (;;) {
            this.#throwIfEnded();
            try {
                const bytes = stream.read(READ_BYTES_MAX);
                if (bytes.length > 0) {
                    return bytes;
                }
            } catch (error) {
                const { payload } = /** @type {any} */ (error);
                if (payload?.tag === "closed") {
                    return undefined;
                }
                throw payload ? this.#broken(payload.val) : error;
            }
            await this.#ready(stream);
        }
    }

    /**
     * Waits until something can go on.
     *
     * @param {any} resource
     * @returns {Promise<void>}
     */
    #ready(resource) {
        if (this.#ended) {
            return Promise.reject(this.#reason);
        }
        const pollable = this.#held.get(resource) ?? resource.subscribe();
        this.#held.set(resource, pollable);
        return new Promise((resolve, reject) => {
            this.#waiting.add(reject);
            whenReady(pollable, () => {
                this.#waiting.delete(reject);
                resolve();
            });
        });
    }

    /**
     * @template T
     * @param {T} resource
     * @returns {T}
     */
    #hold(resource) {
        this.#held.set(resource, undefined);
        return resource;
    }

    /** @param {any} resource */
    #release(resource) {
        const pollable = this.#held.get(resource);
        if (pollable) {
            stopWaiting(pollable);
            pollable[Symbol.dispose]();
        }
        this.#held.delete(resource);
        resource[Symbol.dispose]();
    }

    /**
     * Calls the host, and says its error in the words of `fetch`.
     *
     * @template T
     * @param {() => T} call
     * @returns {T}
     */
    #told(call) {
        try {
            return call();
        } catch (error) {
            const { payload } = /** @type {any} */ (error);
            throw payload ? this.#error(payload) : error;
        }
    }

    /** @param {any} failed The error of a stream. */
    #broken(failed) {
        const code = httpErrorCode(failed);
        const text = failed.toDebugString();
        failed[Symbol.dispose]();
        return this.#error(code ?? codeOf(text));
    }

    /** @param {{ tag: string, val?: any }} code */
    #error(code) {
        return fetchError(code, this.#hop.method, this.#hop.url, admitted.has(this.#hop.url.origin));
    }
}

/** @param {string} text */
function latin1Bytes(text) {
    return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** @param {Uint8Array} bytes */
function latin1Text(bytes) {
    return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}
