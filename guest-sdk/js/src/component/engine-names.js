/**
 * The names under which a component imports WASI while it is made.
 *
 * The engine is linked with WASI by itself, and componentize-qjs offers exactly that while it runs the module: another package
 * that refers to those interfaces, such as `wasi:http`, does not fit to them ("mismatched resource types"). So what the module
 * imports of WASI has a name of its own until the component is finished, and a version that the engine's imports do not have.
 * The names have the same length, which makes the way back a replacement of bytes.
 *
 * @module
 */

const PACKAGES = "cli|clocks|filesystem|http|io|random|sockets";
/** That of the engine of componentize-qjs, and that of this package. */
const [ENGINES, OURS] = ["0.2.12", "0.2.11"];

/**
 * Returns the name of an interface while the component is made.
 *
 * @param {string} name
 */
export function specifierInBuild(name) {
    return new RegExp(`^wasi:(${PACKAGES})/`).test(name) ? textInBuild(name) : name;
}

/**
 * Returns a text in WIT with the names that its packages have while the component is made.
 *
 * @param {string} wit
 */
export function textInBuild(wit) {
    return wit
        .replace(new RegExp(`\\bwasi:(${PACKAGES})\\b`, "g"), "wazi:$1")
        .replace(new RegExp(`(\\bwazi:[a-z]+(?:/[a-z0-9-]+)?)@${ENGINES.replaceAll(".", "\\.")}\\b`, "g"), `$1@${OURS}`)
        .replace(new RegExp(`^\\s*@since\\(version = ${ENGINES.replaceAll(".", "\\.")}\\)`, "gm"), "");
}

/**
 * Gives a component its names, in place.
 *
 * @param {Buffer} component
 */
export function nameImports(component) {
    const name = new RegExp(`^wazi:(${PACKAGES})/`);
    for (let at = component.indexOf("wazi:"); at >= 0; at = component.indexOf("wazi:", at + 1)) {
        if (name.test(component.toString("latin1", at, at + 20))) {
            component.write("wasi:", at, "latin1");
        }
    }
}
