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
export function followed<T extends Answer>(first: Hop, redirect: string, web: Web<T>): Promise<{
    response: T;
    url: string;
    redirected: boolean;
}>;
/** The statuses with which a response sends on to another address. */
export const REDIRECTS: Set<number>;
/**
 * One request on its way.
 */
export type Hop = {
    method: string;
    url: URL;
    headers: Fields;
    body: Uint8Array | AsyncIterable<Uint8Array> | undefined;
};
export type Fields = Iterable<[string, string]> & {
    delete(name: string): void;
};
export type Answer = {
    status: number;
    headers: {
        get(name: string): string | null;
    };
    body: {
        cancel(): unknown;
    } | null;
};
/**
 * What sends a single request, and the classes of the place where that is.
 */
export type Web<T extends Answer> = {
    send: (hop: Hop) => Promise<T>;
    URL: new (location: string, base: URL) => URL;
    Headers: new (fields: any) => Fields;
};
