/**
 * What keeps the file small: it holds the engine's memory as it is when the module has run.
 *
 * @module
 */

/** The sum of what is swept, for each byte of the source: what parsing it takes for a moment, within what the engine has got. */
const SWEPT_PER_BYTE = 4;
const [LARGEST, SMALLEST] = [4_096, 64];

/**
 * Adds a last statement that takes memory which parsing has left behind, and so fills it with zeroes, which the file leaves out.
 *
 * @param {string} source
 * @returns {string}
 */
export function swept(source) {
    const bytes = source.length * SWEPT_PER_BYTE;
    return (
        `${source}\n{const taken=[];for(let left=${bytes},size=${LARGEST};size>=${SMALLEST};size>>=1)` +
        `for(let part=left/2;part>0;part-=size,left-=size)taken.push(new ArrayBuffer(size))}\n`
    );
}

/** Sections of a component: one of the producer's own, and a component inside. */
const [CUSTOM, COMPONENT] = [0, 4];
/** How a component begins: the magic number and the version. */
const HEAD_BYTES = 8;

/**
 * Leaves out the names of a component's parts, which say nothing to anybody: those of functions are elsewhere.
 *
 * @param {Buffer} component
 * @returns {Buffer}
 */
export function withoutNames(component) {
    const kept = [component.subarray(0, HEAD_BYTES)];
    for (let at = HEAD_BYTES; at < component.length; ) {
        const [length, start] = numberAt(component, at + 1);
        const content = component.subarray(start, start + length);
        const [nameLength, nameStart] = numberAt(content, 0);
        if (component[at] === COMPONENT) {
            const inner = withoutNames(content);
            kept.push(Buffer.from([COMPONENT]), bytesOf(inner.length), inner);
        } else if (component[at] !== CUSTOM || content.toString("latin1", nameStart, nameStart + nameLength) !== "component-name") {
            kept.push(component.subarray(at, start + length));
        }
        at = start + length;
    }
    return Buffer.concat(kept);
}

/**
 * Returns a number in LEB128, and where it ends.
 *
 * @param {Buffer} bytes
 * @param {number} at
 * @returns {[number, number]}
 */
function numberAt(bytes, at) {
    let value = 0;
    for (let shift = 0; ; shift += 7, at += 1) {
        value += (bytes[at] & 0x7f) * 2 ** shift;
        if (!(bytes[at] >= 0x80)) {
            return [value, at + 1];
        }
    }
}

/** @param {number} number */
function bytesOf(number) {
    const bytes = [];
    for (let rest = number; ; rest = Math.floor(rest / 0x80)) {
        if (rest < 0x80) {
            return Buffer.from([...bytes, rest]);
        }
        bytes.push((rest % 0x80) | 0x80);
    }
}
