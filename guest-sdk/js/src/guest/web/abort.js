/**
 * `AbortController` and `AbortSignal`.
 *
 * @module
 */

import { Event, EventTarget } from "./event.js";

export class AbortSignal extends EventTarget {
    /** @type {unknown} */
    #reason;
    #aborted = false;
    /** @type {((event: any) => void) | null} */
    onabort = null;

    constructor() {
        super();
        this.addEventListener("abort", (event) => this.onabort?.(event));
    }

    get aborted() {
        return this.#aborted;
    }

    get reason() {
        return this.#reason;
    }

    throwIfAborted() {
        if (this.#aborted) {
            throw this.#reason;
        }
    }

    /**
     * @param {AbortSignal} signal
     * @param {unknown} reason
     */
    static #abort(signal, reason) {
        if (signal.#aborted) {
            return;
        }
        signal.#aborted = true;
        signal.#reason = reason ?? new DOMException("This operation was aborted", "AbortError");
        signal.dispatchEvent(new Event("abort"));
    }

    /** @param {unknown} [reason] */
    static abort(reason) {
        const signal = new AbortSignal();
        AbortSignal.#abort(signal, reason);
        return signal;
    }

    /** @param {number} milliseconds */
    static timeout(milliseconds) {
        const signal = new AbortSignal();
        setTimeout(() => {
            AbortSignal.#abort(signal, new DOMException("The operation was aborted due to timeout", "TimeoutError"));
        }, milliseconds);
        return signal;
    }

    /** @param {Iterable<AbortSignal>} signals */
    static any(signals) {
        const signal = new AbortSignal();
        for (const one of signals) {
            if (one.aborted) {
                AbortSignal.#abort(signal, one.reason);
            }
            one.addEventListener("abort", () => AbortSignal.#abort(signal, one.reason));
        }
        return signal;
    }

    static Controller = class AbortController {
        signal = new AbortSignal();

        /** @param {unknown} [reason] */
        abort(reason) {
            AbortSignal.#abort(this.signal, reason);
        }
    };
}

export const AbortController = AbortSignal.Controller;
