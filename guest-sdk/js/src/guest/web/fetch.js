/**
 * `fetch`, on what sends a single request.
 *
 * @module
 */

import { bytesOf } from "./body.js";
import { Headers } from "./headers.js";
import { Request, bare } from "./request.js";
import { NO_BODY, REDIRECTS, Response } from "./response.js";
import { ReadableStream } from "./stream.js";
import { URL } from "./url.js";

/**
 * One request on its way.
 *
 * @typedef {object} Hop
 * @property {string} method
 * @property {URL} url
 * @property {Headers} headers
 * @property {Uint8Array | AsyncIterable<Uint8Array> | undefined} body
 */

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

const HOPS_MAX = 20;
/**
 * So many bytes of a body are read before anybody asks for them. The host counts a response as under way until its body was
 * read, so a handler that looks at the status alone must not keep others waiting.
 */
const READ_AHEAD_BYTES = 65_536;
/** What a request loses with its body. */
const OF_THE_BODY = ["content-encoding", "content-language", "content-length", "content-location", "content-type"];
/** What another origin must not see. */
const OF_THE_ORIGIN = ["authorization", "cookie", "proxy-authorization"];

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
        const { signal, redirect } = request;
        signal.throwIfAborted();
        let hop = firstHop(request);
        for (let hops = 0; ; hops += 1) {
            const { response, location } = await exchanged(transport, hop, signal);
            if (location === undefined || redirect === "manual") {
                return Object.assign(response, { url: hop.url.href, redirected: hops > 0, type: "basic" });
            }
            response.body?.cancel();
            if (redirect === "error") {
                throw new TypeError(`${bare(hop.url.href)} redirects to ${bare(location)}, and redirects are errors here`);
            }
            if (hops === HOPS_MAX) {
                throw new TypeError(`${bare(request.url)} redirects more than ${HOPS_MAX} times`);
            }
            hop = nextHop(hop, response.status, location);
        }
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
 * Returns the request that a redirect asks for.
 *
 * @param {Hop} hop
 * @param {number} status
 * @param {string} location
 * @returns {Hop}
 */
function nextHop(hop, status, location) {
    let url;
    try {
        url = new URL(location, hop.url);
    } catch {
        throw new TypeError(`${bare(hop.url.href)} redirects to ${JSON.stringify(bare(location))}, which is no URL`);
    }
    // A fragment is kept where the new address has none.
    url.hash ||= hop.url.hash;
    const headers = new Headers(hop.headers);
    let { method, body } = hop;
    const becomesGet = status === 303 ? method !== "HEAD" : status !== 307 && status !== 308 && method === "POST";
    if (becomesGet && method !== "GET") {
        method = "GET";
        body = undefined;
        OF_THE_BODY.forEach((name) => headers.delete(name));
    }
    if (body && !(body instanceof Uint8Array)) {
        throw new TypeError(`${bare(hop.url.href)} redirects a request whose body was a stream, which can't be sent twice`);
    }
    if (url.origin !== hop.url.origin) {
        OF_THE_ORIGIN.forEach((name) => headers.delete(name));
    }
    return { method, url, headers, body };
}

/**
 * Sends one request, and returns its response and where that redirects to.
 *
 * @param {Transport} transport
 * @param {Hop} hop
 * @param {import("./abort.js").AbortSignal} signal
 */
async function exchanged(transport, hop, signal) {
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
        const response = Object.assign(new Response(hasBody ? bodyOf(read, end) : null, { headers }), { status });
        return { response, location: REDIRECTS.has(status) ? (response.headers.get("location") ?? undefined) : undefined };
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
