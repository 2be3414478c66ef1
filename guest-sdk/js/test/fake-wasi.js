/**
 * The interfaces of WASI that `transport.js` imports, in Node: a server that answers at once, with pieces that the test gives.
 *
 * @module
 */

import { register } from "node:module";

/** The pieces of the next response. */
export const pieces = [];

/** What the host refuses to touch once it was dropped. */
class Resource {
    #isDropped = false;

    touched() {
        if (this.#isDropped) {
            throw new TypeError("resource has been disposed");
        }
    }

    subscribe() {
        this.touched();
        return new Resource();
    }

    [Symbol.dispose]() {
        this.touched();
        this.#isDropped = true;
    }
}

class Incoming extends Resource {
    status = () => 200;
    headers = () => Object.assign(new Resource(), { entries: () => [] });
    consume = () => Object.assign(new Resource(), { stream: () => new Stream() });
}

class Stream extends Resource {
    read() {
        this.touched();
        return pieces.shift() ?? new Uint8Array();
    }
}

class Future extends Resource {
    get() {
        this.touched();
        return { val: { tag: "ok", val: new Incoming() } };
    }
}

export const handle = () => new Future();
export const poll = (pollables) => [...pollables.keys()];
export const subscribeDuration = () => new Resource();
export const httpErrorCode = () => null;
export class Fields {
    static fromList = () => new Fields();
}
export class OutgoingBody {}
export class OutgoingRequest {
    setMethod() {}
    setScheme() {}
    setAuthority() {}
    setPathWithQuery() {}
}

const hook = `export const resolve = (name, context, next) =>
    name.startsWith("wasi:") ? { url: ${JSON.stringify(import.meta.url)}, shortCircuit: true } : next(name, context);`;
register(`data:text/javascript,${encodeURIComponent(hook)}`);
