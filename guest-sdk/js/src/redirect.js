/**
 * What `fetch` does about redirects, in a component and in tests.
 *
 * @module
 */

import { FetchError } from "./fetch-error.js";

/** The statuses with which a response sends on to another address. */
export const REDIRECTS = new Set([301, 302, 303, 307, 308]);

const HOPS_MAX = 20;
/** What a request loses with its body. */
const OF_THE_BODY = ["content-encoding", "content-language", "content-length", "content-location", "content-type"];
/** What another origin must not see. */
const OF_THE_ORIGIN = ["authorization", "cookie", "proxy-authorization"];

/**
 * One request on its way.
 *
 * @typedef {object} Hop
 * @property {string} method
 * @property {URL} url
 * @property {Fields} headers
 * @property {Uint8Array | AsyncIterable<Uint8Array> | undefined} body
 */

/** @typedef {Iterable<[string, string]> & { delete(name: string): void }} Fields */

/** @typedef {{ status: number, headers: { get(name: string): string | null }, body: { cancel(): unknown } | null }} Answer */

/**
 * What sends a single request, and the classes of the place where that is.
 *
 * @template {Answer} T
 * @typedef {object} Web
 * @property {(hop: Hop) => Promise<T>} send
 * @property {new (location: string, base: URL) => URL} URL
 * @property {new (fields: any) => Fields} Headers
 */

/**
 * Sends a request, and those to which its answers redirect.
 *
 * @template {Answer} T
 * @param {Hop} first
 * @param {string} redirect `follow`, `manual` or `error`.
 * @param {Web<T>} web
 * @returns {Promise<{ response: T, url: string, redirected: boolean }>}
 */
export async function followed(first, redirect, web) {
    let hop = first;
    for (let hops = 0; ; hops += 1) {
        const response = await web.send(hop);
        const location = REDIRECTS.has(response.status) ? response.headers.get("location") : null;
        if (location === null || redirect === "manual") {
            return { response, url: hop.url.href, redirected: hops > 0 };
        }
        response.body?.cancel();
        if (redirect === "error") {
            throw unfollowed(hop, "it redirects, and redirects are errors here");
        }
        if (hops === HOPS_MAX) {
            throw unfollowed(first, `it redirects more than ${HOPS_MAX} times`);
        }
        hop = nextHop(hop, response.status, location, web);
    }
}

/**
 * Returns the request that a redirect asks for.
 *
 * @param {Hop} hop
 * @param {number} status
 * @param {string} location
 * @param {Pick<Web<Answer>, "URL" | "Headers">} web
 * @returns {Hop}
 */
function nextHop(hop, status, location, { URL, Headers }) {
    let url;
    try {
        url = new URL(location, hop.url);
    } catch {
        throw unfollowed(hop, "it redirects to what is no URL");
    }
    if (url.protocol !== "http:" && url.protocol !== "https:") {
        throw unfollowed(hop, `it redirects to ${url.protocol}, and fetch knows http: and https:`);
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
        throw unfollowed(hop, "it redirects a request whose body was a stream, which can't be sent twice");
    }
    if (url.origin !== hop.url.origin) {
        OF_THE_ORIGIN.forEach((name) => headers.delete(name));
    }
    return { method, url, headers, body };
}

/**
 * Returns the error of a redirect that is not followed. Addresses are in it without their queries, which may be secret.
 *
 * @param {Hop} hop
 * @param {string} why
 */
function unfollowed({ method, url }, why) {
    return new FetchError("protocol", `${method} ${url.origin}${url.pathname}: ${why}`);
}
