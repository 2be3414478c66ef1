/**
 * `AbortController` and `AbortSignal`.
 *
 * @module
 */

/** @typedef {((event: { type: "abort", target: AbortSignal }) => void) | { handleEvent(event: object): void }} Listener */

export class AbortSignal {
    /** @type {Map<Listener, boolean>} With whether it is called once only. */
    #listeners = new Map();
    /** @type {unknown} */
    #reason;
    #aborted = false;
    /** @type {Listener | null} */
    onabort = null;

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
     * @param {string} type
     * @param {Listener | null} listener
     * @param {boolean | { once?: boolean }} [options]
     */
    addEventListener(type, listener, options) {
        if (type === "abort" && listener && !this.#listeners.has(listener)) {
            this.#listeners.set(listener, typeof options === "object" && options.once === true);
        }
    }

    /**
     * @param {string} type
     * @param {Listener | null} listener
     */
    removeEventListener(type, listener) {
        if (type === "abort" && listener) {
            this.#listeners.delete(listener);
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
        const event = { type: /** @type {const} */ ("abort"), target: signal, currentTarget: signal };
        const own = signal.onabort ? [signal.onabort] : [];
        for (const listener of [...own, ...signal.#listeners.keys()]) {
            if (typeof listener === "function") {
                listener.call(signal, event);
            } else {
                listener.handleEvent(event);
            }
        }
        signal.#listeners.clear();
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
