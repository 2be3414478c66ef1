/**
 * `Response`: what `fetch` answers.
 *
 * @module
 */

import { REDIRECTS } from "../../redirect.js";
import { Body, contentOf } from "./body.js";
import { Headers } from "./headers.js";

/** The statuses of responses that have no body. */
export const NO_BODY = new Set([101, 103, 204, 205, 304]);

export class Response extends Body {
    /**
     * @param {any} [body]
     * @param {{ status?: number, statusText?: string, headers?: any }} [init]
     */
    constructor(body = null, { status = 200, statusText = "", headers: fields } = {}) {
        if (!(Number.isInteger(status) && status >= 200 && status <= 599)) {
            throw new RangeError(`${status} is no status from 200 to 599`);
        }
        const content = contentOf(body);
        if ((content.bytes || content.stream) && NO_BODY.has(status)) {
            throw new TypeError(`a response with status ${status} has no body`);
        }
        const headers = new Headers(fields);
        if (content.type && !headers.has("content-type")) {
            headers.set("content-type", content.type);
        }
        super(content, headers.get("content-type") ?? "");
        this.status = status;
        this.statusText = statusText;
        this.headers = headers;
        this.url = "";
        this.redirected = false;
        this.type = "default";
    }

    get ok() {
        return this.status >= 200 && this.status <= 299;
    }

    clone() {
        const { bytes, stream } = this.copied();
        const { status, statusText, headers, url, redirected, type } = this;
        return Object.assign(new Response(bytes ?? stream, { status, statusText, headers }), { url, redirected, type });
    }

    get [Symbol.toStringTag]() {
        return "Response";
    }

    /**
     * @param {unknown} value
     * @param {{ status?: number, statusText?: string, headers?: any }} [init]
     */
    static json(value, init = {}) {
        const headers = new Headers(init.headers);
        if (!headers.has("content-type")) {
            headers.set("content-type", "application/json");
        }
        return new Response(JSON.stringify(value), { ...init, headers });
    }

    /**
     * @param {unknown} url
     * @param {number} [status]
     */
    static redirect(url, status = 302) {
        if (!REDIRECTS.has(status)) {
            throw new RangeError(`${status} is no status of a redirect`);
        }
        return new Response(null, { status, headers: { location: String(url) } });
    }

    static error() {
        return Object.assign(new Response(), { status: 0, type: "error" });
    }
}
