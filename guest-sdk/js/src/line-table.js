/**
 * From places in a bundle to lines of the author's files.
 *
 * The table has the form of the mappings in a source map, without columns and names of the sources: for each line of the
 * bundle, divided by `;`, the places at which another line begins, divided by `,`. A place is its column alone where nothing
 * of the author's begins, otherwise column, source and line, each as the difference to the last one.
 *
 * @module
 */

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const CONTINUES = 32;

/** @typedef {{ sources: string[], mappings: string }} LineTable */
/** @typedef {{ column: number, source?: number, line?: number }} Place Counted from 0. */

/**
 * Returns the place in the sources for a place in the bundle, nothing if that is not the author's.
 *
 * @param {LineTable} table
 * @param {number} line From 1.
 * @param {number} column From 1.
 * @returns {{ source: string, line: number } | undefined}
 */
export function placeOf({ sources, mappings }, line, column) {
    const places = decoded(mappings, 3)[line - 1] ?? [];
    const found = places.findLast((place) => place.column <= column - 1);
    if (found?.source === undefined || found.line === undefined) {
        return undefined;
    }
    return { source: sources[found.source], line: found.line + 1 };
}

/**
 * @param {string} mappings
 * @param {3 | 4} fields 4 for those of a source map.
 * @returns {Place[][]} By lines of the bundle.
 */
export function decoded(mappings, fields) {
    let [source, line] = [0, 0];
    return mappings.split(";").map((text) => {
        let column = 0;
        return text ? text.split(",").map((segment) => {
            const numbers = numbersOf(segment);
            column += numbers[0];
            if (numbers.length < fields) {
                return { column };
            }
            source += numbers[1];
            line += numbers[2];
            return { column, source, line };
        }) : [];
    });
}

/**
 * @param {Place[][]} lines
 * @returns {string}
 */
export function encoded(lines) {
    let [lastSource, lastLine] = [0, 0];
    const segments = lines.map((places) => {
        let lastColumn = 0;
        return places.map(({ column, source, line }) => {
            const numbers = [column - lastColumn];
            lastColumn = column;
            if (source !== undefined && line !== undefined) {
                numbers.push(source - lastSource, line - lastLine);
                [lastSource, lastLine] = [source, line];
            }
            return numbers.map(textOf).join("");
        });
    });
    return segments.map((line) => line.join(",")).join(";");
}

/** @param {string} segment */
function numbersOf(segment) {
    const numbers = [];
    let [value, shift] = [0, 0];
    for (const digit of segment) {
        const bits = DIGITS.indexOf(digit);
        value += (bits & (CONTINUES - 1)) << shift;
        shift += 5;
        if (bits < CONTINUES) {
            numbers.push(value & 1 ? -(value >> 1) : value >> 1);
            [value, shift] = [0, 0];
        }
    }
    return numbers;
}

/** @param {number} number */
function textOf(number) {
    let rest = number < 0 ? (-number << 1) | 1 : number << 1;
    let text = "";
    do {
        const more = rest > CONTINUES - 1;
        text += DIGITS[(rest & (CONTINUES - 1)) | (more ? CONTINUES : 0)];
        rest >>= 5;
    } while (rest > 0);
    return text;
}
