/**
 * The world that a component is made for: what it exports, and of what the host offers only what it imports.
 *
 * @module
 */

import { cp, mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
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
    const theirs = more ? await witOf(more) : [];
    const replaced = new Set(theirs.map(({ name }) => name));
    const ours = (await witOf(path.join(PACKAGE, "platform"))).filter(({ name }) => !replaced.has(name));
    for (const { file, text } of [...theirs, ...ours]) {
        const to = path.join(folder, "deps", file);
        await mkdir(path.dirname(to), { recursive: true });
        await writeFile(to, textInBuild(text));
    }
    const lines = imports.map((name) => `    import ${name.startsWith(OWN) ? name.slice(OWN.length).replace(/@.*/, "") : name};`);
    const world = ["package sandhog:worker@0.1.0;", "world build {", ...lines, `    export ${exported};`, "}", ""];
    await writeFile(path.join(folder, "sandhog-build.wit"), world.join("\n"));
}

/**
 * Returns the files of packages. A package is a file, or the files of a folder, of which one at least says its name.
 *
 * @param {string} folder
 * @returns {Promise<{ file: string, name: string | undefined, text: string }[]>} `file` is relative to the folder.
 */
async function witOf(folder) {
    const files = (await readdir(folder, { recursive: true })).filter((file) => file.endsWith(".wit"));
    return Promise.all(
        files.map(async (file) => {
            const text = await readFile(path.join(folder, file), "utf8");
            const name = /^\s*package\s+([^;\s]+)\s*;/m.exec(text)?.[1];
            // The usual place of what a package depends on is where everything is here.
            return { file: file.replace(/^deps[\\/]/, ""), name, text };
        }),
    );
}
