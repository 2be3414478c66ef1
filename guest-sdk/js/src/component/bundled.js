/**
 * What a bundle has of its own beside the author's modules.
 *
 * @module
 */

/** The packages of a component, and where their code is in them. */
export const BUNDLED = {
    "promise-polyfill": "src/index.js",
    "whatwg-url-minimum": "dist/whatwg-url-minimum.mjs",
    "@ungap/structured-clone": "esm/index.js",
};
/** The name of the module that the build writes. */
export const ENTRY = "sandhog-entry.js";
