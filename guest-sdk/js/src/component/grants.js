/**
 * What a component needs its manifest to grant, and whether the manifest beside it does.
 *
 * @module
 */

import { readFile } from "node:fs/promises";
import path from "node:path";
import { dependency } from "./dependency.js";

/** What grants an import, and a line that does. @type {{ key: string, imports: RegExp, line: string }[]} */
const GRANTS = [
    { key: "send", imports: /^sandhog:worker\/sender@/, line: 'send = ["QUEUE"]' },
    { key: "http", imports: /^wa[sz]i:http\//, line: 'http = ["https://api.example.com"]' },
    { key: "keyvalue", imports: /^wasi:keyvalue\//, line: "keyvalue = true" },
    { key: "config", imports: /^wasi:config\//, line: 'config = { NAME = "VALUE" }' },
];

/** Grants that no interface of this package reaches. */
const WITHOUT_EFFECT = ["env", "dirs"];

/**
 * Says what a component needs to be granted, one line for each thing that somebody may want to know.
 *
 * @param {string[]} imports
 * @param {string} out The component.
 * @param {string} entry
 * @returns {Promise<string[]>}
 */
export async function grantNotes(imports, out, entry) {
    const needed = GRANTS.filter((grant) => imports.some((name) => grant.imports.test(name)));
    const uses = needed.length > 0 ? `needs in [grant]: ${needed.map(({ key }) => key).join(", ")}` : "needs no grant";
    const found = await manifestOf(out, entry);
    if (!found) {
        return [needed.length > 0 ? `${uses}; there is no ${manifestName(out)} to compare with` : uses];
    }
    const shown = path.relative("", found.file);
    if (found.error) {
        return [uses, `${shown} can't be read: ${found.error}`];
    }
    const granted = found.grants;
    const missing = needed.filter(({ key }) => !granted[key]);
    const unused = GRANTS.filter((grant) => granted[grant.key] && !needed.includes(grant));
    return [
        uses,
        ...missing.map(({ key, line }) => `${shown} does not grant ${key}: the host will refuse the component. Add to [grant]: ${line}`),
        ...unused.map(({ key }) => `${shown} grants ${key}, which the component does not use`),
        ...WITHOUT_EFFECT.filter((key) => granted[key]).map((key) => `${shown} grants ${key}, which has no effect in JavaScript`),
    ];
}

/** @param {string} out */
function manifestName(out) {
    return `${path.parse(out).name}.toml`;
}

/**
 * Looks for the manifest: beside the component, beside the module, and in the folder of its package.
 *
 * @param {string} out
 * @param {string} entry
 * @returns {Promise<{ file: string, grants: Record<string, unknown>, error?: string } | undefined>}
 */
async function manifestOf(out, entry) {
    const folders = new Set([path.dirname(path.resolve(out)), path.dirname(path.resolve(entry)), process.cwd()]);
    for (const folder of folders) {
        const file = path.join(folder, manifestName(out));
        const text = await readFile(file, "utf8").catch(() => undefined);
        if (text !== undefined) {
            const { parse } = await dependency("smol-toml");
            try {
                return { file, grants: parse(text).grant ?? {} };
            } catch (error) {
                return { file, grants: {}, error: /** @type {Error} */ (error).message.split("\n")[0] };
            }
        }
    }
    return undefined;
}
