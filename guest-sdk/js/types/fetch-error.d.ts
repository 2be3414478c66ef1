/**
 * Returns the error of a request to an origin that the manifest does not grant.
 *
 * @internal
 * @param {string} method
 * @param {{ origin: string, pathname: string }} url
 */
export function notGranted(method: string, { origin, pathname }: {
    origin: string;
    pathname: string;
}): FetchError;
/**
 * Why a request had no answer.
 *
 * @module
 */
/**
 * Why `fetch` had no answer, or broke off in the middle of one. An answer of any status is no error.
 *
 * A handler that does not catch it is tried again, since another time may go well: an operator can add a missing grant, and a
 * server can come back.
 */
export class FetchError extends TypeError {
    /**
     * @param {FetchErrorKind} kind
     * @param {string} message
     * @param {ErrorOptions} [options]
     */
    constructor(kind: FetchErrorKind, message: string, options?: ErrorOptions);
    /**
     * `not-granted`: the manifest does not grant the origin, or not the address that it has; `timeout`: the server did not
     * answer in time; `connection`: there is no such server, it can't be reached, or it hung up; `tls`: its certificate or
     * its encryption is not accepted; `limit`: the attempt has used up one of its limits (`limits.http-...` in the
     * manifest); `protocol`: the server did not speak HTTP, its redirects can't be followed, or the request can't be sent
     * as it is.
     *
     * @readonly
     * @type {FetchErrorKind}
     */
    readonly kind: FetchErrorKind;
}
export type FetchErrorKind = "not-granted" | "timeout" | "connection" | "tls" | "limit" | "protocol";
