/**
 * What a bundle carries to say of a crash where it was in the author's files.
 *
 * @module
 */

import path from "node:path";
import { fileURLToPath } from "node:url";
import { BUNDLED, ENTRY } from "./bundled.js";
import { decoded, encoded } from "../line-table.js";

const PACKAGE = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");

/** @typedef {import("../line-table.js").Place} Place */

/**
 * Adds the table of lines to a bundle. Frames of this package are no news to an author, so they have no place in it.
 *
 * @param {string} source
 * @param {{ sources: string[], mappings: string }} map The bundle's source map, whose sources are relative to the root.
 * @param {string} root
 * @returns {string}
 */
export function withLines(source, map, root) {
    const isOurs = map.sources.map((name) => {
        const file = path.resolve(root, name);
        const ofPackage = Object.keys(BUNDLED).some((one) => name.includes(`node_modules/${one}/`));
        return ofPackage || name.endsWith(ENTRY) || file.startsWith(path.join(PACKAGE, "src") + path.sep);
    });
    const mappings = encoded(decoded(map.mappings, 4).map((places) => starts(places, isOurs)));
    const table = JSON.stringify({ sources: map.sources.map((name, index) => (isOurs[index] ? "" : name)), mappings });
    return `${source}\nglobalThis[Symbol.for("sandhog.lines")]=${JSON.stringify(table)};\n`;
}

/**
 * Keeps of the places in one line those at which another line of the sources begins.
 *
 * @param {Place[]} places
 * @param {boolean[]} isOurs
 * @returns {Place[]}
 */
function starts(places, isOurs) {
    /** @type {Place[]} */
    const kept = [];
    for (const { column, source, line } of places) {
        const place = source === undefined || isOurs[source] ? { column } : { column, source, line };
        const last = kept.at(-1) ?? { column: 0 };
        if (last.source !== place.source || last.line !== place.line) {
            kept.push(place);
        }
    }
    return kept;
}
