/**
 * What the errors of `wasi:http` mean to somebody who called `fetch`.
 *
 * @module
 */

import { FetchError, notGranted } from "../fetch-error.js";

/** @typedef {import("../fetch-error.js").FetchErrorKind} FetchErrorKind */

/** By the names of the codes; the others are about the protocol. @type {[RegExp, FetchErrorKind, string][]} */
const MEANINGS = [
    [/^destination-IP-prohibited$/, "not-granted", "its address is not a public one, and `http-addresses` in [grant] of the manifest does not grant it"],
    [/^DNS-timeout$/, "timeout", "its name was not looked up in time"],
    [/^DNS-error$|^destination-not-found$/, "connection", "its name could not be looked up"],
    [/^destination-(unavailable|IP-unroutable)$/, "connection", "it can't be reached"],
    [/^connection-refused$/, "connection", "it refuses connections"],
    [/^connection-terminated$/, "connection", "it closed the connection"],
    [/^connection-limit-reached$/, "limit", "too many requests are under way (limits.http-concurrent); one is until its response was read to the end"],
    [/^connection-(read-|write-)?timeout$|^HTTP-response-timeout$/, "timeout", "it did not answer in time"],
    [/^TLS-/, "tls", "no secure connection could be made"],
    [/^HTTP-request-denied$/, "limit", "the attempt has made as many requests as it may (limits.http-requests)"],
    [/^HTTP-request-body-size$/, "limit", "the bodies of the attempt's requests are too large (limits.http-request-bytes)"],
    [/^HTTP-response-body-size$/, "limit", "the bodies of the attempt's responses are too large (limits.http-response-bytes)"],
    [/^HTTP-response-incomplete$/, "connection", "it closed the connection in the middle of the response"],
];

/**
 * Returns the code of an error in the middle of a body, of which the engine tells the text alone.
 *
 * @param {string} text
 * @returns {{ tag: string, val: string }}
 */
export function codeOf(text) {
    const tag = /response body size/i.test(text)
        ? "HTTP-response-body-size"
        : /time(d )?out/i.test(text)
          ? "connection-read-timeout"
          : "connection-terminated";
    return { tag, val: text };
}

/**
 * @param {{ tag: string, val?: any }} code
 * @param {string} method
 * @param {URL} url
 * @param {boolean} wasAdmitted Whether this attempt has had an answer of this origin, which shows that it is granted.
 * @returns {FetchError}
 */
export function fetchError({ tag, val }, method, url, wasAdmitted) {
    const request = `${method} ${url.origin}${url.pathname}`;
    if (tag === "HTTP-request-denied" && !wasAdmitted) {
        return notGranted(method, url);
    }
    const [, kind, text] = MEANINGS.find(([name]) => name.test(tag)) ?? ["", "protocol", "the exchange failed"];
    // The name of a limit says all.
    const detail = kind === "limit" ? "" : ` (${typeof val === "string" ? val : tag})`;
    return new FetchError(/** @type {FetchErrorKind} */ (kind), `${request}: ${text}${detail}`);
}
