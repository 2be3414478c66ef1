/**
 * `fetch`, on what sends a single request.
 *
 * @module
 */

import { followed } from "../../redirect.js";
import { bytesOf } from "./body.js";
import { Headers } from "./headers.js";
import { Request } from "./request.js";
import { NO_BODY, Response } from "./response.js";
import { ReadableStream } from "./stream.js";
import { URL } from "./url.js";

/** @typedef {import("../../redirect.js").Hop} Hop */

/**
 * @typedef {object} Answer
 * @property {number} status
 * @property {[string, string][]} headers
 * @property {() => Promise<Uint8Array | undefined>} read Returns the next bytes of the body, nothing at its end.
 */

/**
 * A request under way, and then its response.
 *
 * @typedef {object} Exchange
 * @property {() => Promise<Answer>} answer
 * @property {(reason?: unknown) => void} drop Ends it, wherever it is: what still waits fails for this reason. Without
 *     effect when it has ended already.
 */

/** @typedef {(hop: Hop) => Exchange} Transport */

/**
 * So many bytes of a body are read before anybody asks for them. The host counts a response as under way until its body was
 * read, so a handler that looks at the status alone must not keep others waiting.
 */
const READ_AHEAD_BYTES = 65_536;

/**
 * Makes a `fetch`.
 *
 * @param {Transport} transport
 */
export function fetchOn(transport) {
    /**
     * @param {Request | URL | string} input
     * @param {import("./request.js").RequestInit} [init]
     */
    return async function fetch(input, init) {
        const request = new Request(input, init);
        const send = (/** @type {Hop} */ hop) => exchanged(transport, hop, request.signal);
        const { response, url, redirected } = await followed(firstHop(request), request.redirect, { send, URL, Headers });
        return Object.assign(response, { url, redirected, type: "basic" });
    };
}

/**
 * @param {Request} request
 * @returns {Hop}
 */
function firstHop(request) {
    const headers = new Headers(request.headers);
    for (const [name, value] of [["accept", "*/*"], ["user-agent", "sandhog"]]) {
        if (!headers.has(name)) {
            headers.set(name, value);
        }
    }
    const content = request.take();
    const body = content instanceof ReadableStream ? piecesOf(content) : content;
    return { method: request.method, url: new URL(request.url), headers, body };
}

/** @param {ReadableStream} stream */
async function* piecesOf(stream) {
    for await (const piece of stream) {
        yield bytesOf(piece);
    }
}

/**
 * Sends one request.
 *
 * @param {Transport} transport
 * @param {Hop} hop
 * @param {import("./abort.js").AbortSignal} signal
 */
async function exchanged(transport, hop, signal) {
    signal.throwIfAborted();
    if (hop.url.protocol !== "http:" && hop.url.protocol !== "https:") {
        throw new TypeError(`fetch knows http: and https:, not ${hop.url.protocol}`);
    }
    const exchange = transport(hop);
    const abort = () => exchange.drop(signal.reason);
    const end = () => {
        signal.removeEventListener("abort", abort);
        exchange.drop();
    };
    signal.addEventListener("abort", abort);
    try {
        const { status, headers, read } = await exchange.answer();
        const hasBody = hop.method !== "HEAD" && !NO_BODY.has(status);
        if (!hasBody) {
            end();
        }
        // Not by the constructor, which refuses numbers that servers do send.
        return Object.assign(new Response(hasBody ? bodyOf(read, end) : null, { headers }), { status });
    } catch (error) {
        end();
        throw error;
    }
}

/**
 * @param {() => Promise<Uint8Array | undefined>} read
 * @param {() => void} end
 */
function bodyOf(read, end) {
    return new ReadableStream(
        {
            async pull(controller) {
                try {
                    const bytes = await read();
                    if (bytes) {
                        controller.enqueue(bytes);
                        return;
                    }
                } catch (error) {
                    end();
                    throw error;
                }
                end();
                controller.close();
            },
            cancel: end,
        },
        { highWaterMark: READ_AHEAD_BYTES, size: (bytes) => bytes.length },
    );
}
