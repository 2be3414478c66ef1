/**
 * The packages that the build itself needs, wherever npm has put them.
 *
 * @module
 */

import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { BuildError } from "./build-error.js";

/**
 * Imports a dependency of this package.
 *
 * @param {string} name
 * @returns {Promise<any>}
 */
export async function dependency(name) {
    const module = await import(pathToFileURL(located(name, (require) => require.resolve(name))).href);
    return module.default ?? module;
}

/**
 * Returns a file of a dependency of this package.
 *
 * @param {string} name
 * @param {string} file Where it is in the package.
 * @returns {string} A path.
 */
export function fileOf(name, file) {
    return located(name, (require) => path.join(path.dirname(require.resolve(`${name}/package.json`)), file));
}

/**
 * Looks for a dependency beside this package, and where the build runs.
 *
 * @param {string} name
 * @param {(require: NodeRequire) => string} find
 * @returns {string}
 */
function located(name, find) {
    for (const from of [fileURLToPath(import.meta.url), path.join(process.cwd(), "package.json")]) {
        try {
            return find(createRequire(from));
        } catch {
            continue;
        }
    }
    throw new BuildError(`${name} is not installed: run npm install`);
}
