/**
 * The globals of the web that the engine lacks. The build takes in those that a handler or its packages name, and no others.
 *
 * @module
 */

import structuredClone from "@ungap/structured-clone";
import { transport } from "../transport.js";
import { fetchOn } from "./fetch.js";

export { AbortController, AbortSignal } from "./abort.js";
export { Blob } from "./blob.js";
export { Event, EventTarget } from "./event.js";
export { Headers } from "./headers.js";
export { Request } from "./request.js";
export { Response } from "./response.js";
export { ReadableStream } from "./stream.js";
export { URL, URLSearchParams } from "./url.js";
export { structuredClone };
export const fetch = /* @__PURE__ */ fetchOn(transport);
