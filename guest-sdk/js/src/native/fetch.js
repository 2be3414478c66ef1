/**
 * The `fetch` of a handler that runs in a test: it asks the test, and never the network.
 *
 * @module
 */

import { notGranted } from "../fetch-error.js";
import { followed } from "../redirect.js";
import { recorder } from "./recorder.js";

/**
 * What answers in place of servers: a function, or answers by what is asked for, `"POST https://api.example.com/invoices"` or
 * the address alone. An error is what `fetch` fails with.
 *
 * @typedef {((request: Request) => Answer | Promise<Answer>) | Record<string, Answer | ((request: Request) => Answer | Promise<Answer>)>} Http
 */

/** @typedef {Response | Error} Answer */
/** @typedef {import("../redirect.js").Hop} Hop */

const outside = globalThis.fetch;

/** Lets `fetch` ask the test while a handler runs in one. */
export function takeOverFetch() {
    globalThis.fetch = async (input, init) => {
        const recording = recorder.getStore();
        if (!recording) {
            return outside(input, init);
        }
        // A stream as a body needs the word in Node, and nowhere else.
        const request = new Request(input, /** @type {any} */ ({ duplex: "half", ...init }));
        const first = await firstHop(request, init?.body);
        const send = (/** @type {Hop} */ hop) => exchanged(recording, hop, request);
        const { response, url, redirected } = await followed(first, request.redirect, { send, URL, Headers });
        return Object.defineProperties(response, { url: { value: url }, redirected: { value: redirected } });
    };
}

/**
 * @param {Request} request
 * @param {unknown} given The body as the handler has given it, which says whether it can be sent a second time.
 * @returns {Promise<Hop>}
 */
async function firstHop(request, given) {
    const isStream = typeof given === "object" && given !== null && Symbol.asyncIterator in given;
    const stream = /** @type {any} */ (request.body ?? undefined);
    const body = stream && !isStream ? new Uint8Array(await request.arrayBuffer()) : stream;
    return { method: request.method, url: new URL(request.url), headers: new Headers(request.headers), body };
}

/**
 * Answers one request.
 *
 * @param {import("./recorder.js").Recording} recording
 * @param {Hop} hop
 * @param {Request} from The request of the handler.
 */
async function exchanged(recording, { method, url, headers, body }, { redirect, signal }) {
    signal.throwIfAborted();
    const request = new Request(url, /** @type {any} */ ({ method, headers, body, redirect, signal, duplex: "half" }));
    recording.requests.push(await received(request.clone()));
    return Promise.race([answered(recording.http, request), aborted(signal)]);
}

/**
 * @param {Http | undefined} http
 * @param {Request} request
 * @returns {Promise<Response>}
 */
async function answered(http, request) {
    const { method, url } = request;
    const found = typeof http === "function" ? http : (http?.[`${method} ${url}`] ?? http?.[url]);
    const answer = typeof found === "function" ? await found(request) : found;
    if (answer === undefined) {
        throw notGranted(method, new URL(url));
    }
    if (answer instanceof Error) {
        throw answer;
    }
    return answer.clone();
}

/**
 * @param {AbortSignal} signal
 * @returns {Promise<never>}
 */
function aborted(signal) {
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));
}

/**
 * @param {Request} request
 * @returns {Promise<import("../testing.js").Requested>}
 */
async function received(request) {
    const body = new Uint8Array(await request.arrayBuffer());
    const text = () => new TextDecoder("utf-8", { fatal: true }).decode(body);
    return { method: request.method, url: request.url, headers: request.headers, body, text, json: () => JSON.parse(text()) };
}
