/**
 * `Event` and `EventTarget`. A target has no parents here, so nothing bubbles; what a listener throws, `dispatchEvent` throws.
 *
 * @module
 */

/** @typedef {((event: any) => void) | { handleEvent(event: any): void }} Listener */

export class Event {
    /** @type {EventTarget | null} */
    target = null;
    /** @type {EventTarget | null} */
    currentTarget = null;
    defaultPrevented = false;
    /** @internal */
    isStopped = false;

    /**
     * @param {string} type
     * @param {{ cancelable?: boolean }} [init]
     */
    constructor(type, { cancelable = false } = {}) {
        this.type = String(type);
        this.cancelable = cancelable;
    }

    preventDefault() {
        this.defaultPrevented ||= this.cancelable;
    }

    stopPropagation() {}

    stopImmediatePropagation() {
        this.isStopped = true;
    }
}

export class EventTarget {
    /** @type {Map<string, Map<Listener, boolean>>} By types, with whether a listener is called once only. */
    #listeners = new Map();

    /**
     * @param {string} type
     * @param {Listener | null} listener
     * @param {boolean | { once?: boolean }} [options]
     */
    addEventListener(type, listener, options) {
        const own = this.#listeners.get(type) ?? new Map();
        if (listener && !own.has(listener)) {
            this.#listeners.set(type, own.set(listener, typeof options === "object" && options?.once === true));
        }
    }

    /**
     * @param {string} type
     * @param {Listener | null} listener
     */
    removeEventListener(type, listener) {
        this.#listeners.get(type)?.delete(/** @type {Listener} */ (listener));
    }

    /**
     * @param {Event} event
     * @returns {boolean} `false` if a listener has prevented what would follow.
     */
    dispatchEvent(event) {
        event.target = event.currentTarget = this;
        const own = this.#listeners.get(event.type) ?? new Map();
        for (const [listener, isOnce] of [...own]) {
            if (!event.isStopped && own.has(listener)) {
                if (isOnce) {
                    own.delete(listener);
                }
                typeof listener === "function" ? listener.call(this, event) : listener.handleEvent(event);
            }
        }
        return !event.defaultPrevented;
    }
}
