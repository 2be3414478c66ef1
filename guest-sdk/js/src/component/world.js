/**
 * The world that a component is made for: what it exports, and of what the host offers only what it imports.
 *
 * @module
 */

import { cp, mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { BuildError } from "./build-error.js";
import { textInBuild } from "./engine-names.js";

const PACKAGE = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const OWN = "sandhog:worker/";

/**
 * Writes the world `build` in WIT.
 *
 * @param {string} folder
 * @param {string} exported
 * @param {string[]} imports
 * @param {string | undefined} more A folder with the WIT of further interfaces. Its packages replace those of this package.
 */
export async function writeWorld(folder, exported, imports, more) {
    await cp(path.join(PACKAGE, "wit"), folder, { recursive: true });
    /** @type {Map<string, string>} */
    const packages = new Map();
    for (const file of [...(await witFiles(path.join(PACKAGE, "platform"))), ...(more ? await witFiles(more) : [])]) {
        const text = await readFile(file, "utf8");
        const name = /^\s*package\s+([^;\s]+)\s*;/m.exec(text)?.[1];
        if (!name) {
            throw new BuildError(`${file} does not say of which package it is: its first line has to be package ...;`);
        }
        packages.set(name, textInBuild(text));
    }
    const deps = path.join(folder, "deps");
    await mkdir(deps);
    for (const [index, text] of [...packages.values()].entries()) {
        await writeFile(path.join(deps, `${index}.wit`), text);
    }
    const lines = imports.map((name) => `    import ${name.startsWith(OWN) ? name.slice(OWN.length).replace(/@.*/, "") : name};`);
    const world = ["package sandhog:worker@0.1.0;", "world build {", ...lines, `    export ${exported};`, "}", ""];
    await writeFile(path.join(folder, "sandhog-build.wit"), world.join("\n"));
}

/**
 * @param {string} folder
 * @returns {Promise<string[]>}
 */
async function witFiles(folder) {
    const names = await readdir(folder, { recursive: true });
    return names.filter((name) => name.endsWith(".wit")).map((name) => path.join(folder, name));
}
