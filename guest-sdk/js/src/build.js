/**
 * Makes a component of a module: esbuild bundles it with this package, componentize-qjs adds the engine.
 *
 * @module
 */

import { cp, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const PACKAGE = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const GUEST = path.join(PACKAGE, "src", "guest");
/** What `exchange.js` says in a build for the kind of handler that the module is not. */
const OTHER_KIND = /sandhog: the default export is a (handler|batch-handler)/;
/** Asynchronous functions are rewritten into promises, which this package brings. */
const NOT_SUPPORTED = { "async-await": false, "async-generator": false, "for-await": false };
const FROM_THE_HOST = ["sandhog:*", "wasi:*"];

/** @typedef {"handler" | "batch-handler"} Kind */

/** A mistake of whoever builds: its message says it all. */
export class BuildError extends Error {}

/**
 * @param {object} options
 * @param {string} options.entry The module whose default export is the handler; JavaScript or TypeScript.
 * @param {string} options.out The component to write.
 * @param {string} [options.wit] A folder with the WIT of further interfaces that the module imports.
 * @param {boolean} [options.small] Chooses the engine that was built for size: a third smaller, half as fast.
 * @returns {Promise<{ kind: Kind, bytes: number }>}
 */
export async function build({ entry, out, wit, small = false }) {
    const folder = await mkdtemp(path.join(tmpdir(), "sandhog-build-"));
    try {
        const build = (/** @type {Kind} */ kind) => componentOf({ kind, entry, folder, wit, small });
        const { kind, component } = await build("handler").catch((error) => {
            const other = OTHER_KIND.exec(String(error));
            if (!other) {
                throw error;
            }
            return build("batch-handler");
        });
        await writeFile(out, component);
        return { kind, bytes: component.length };
    } finally {
        await rm(folder, { recursive: true, force: true });
    }
}

/**
 * @param {{ kind: Kind, entry: string, folder: string, wit: string | undefined, small: boolean }} options
 */
async function componentOf({ kind, entry, folder, wit, small }) {
    const { source, imports } = await bundle(entry, kind);
    const witPath = path.join(folder, kind);
    await writeWorld(witPath, kind, imports, wit);
    const { componentize } = await dependency("componentize-qjs");
    try {
        const options = { witPath, world: "build", jsSource: source, sync: true, optSize: small };
        const { component } = await componentize(options);
        return { kind, component };
    } catch (error) {
        throw new BuildError(withoutWrapping(error), { cause: error });
    }
}

/**
 * Returns the module and all that it needs as one source, and what that imports from the host.
 *
 * @param {string} entry
 * @param {Kind} kind
 */
async function bundle(entry, kind) {
    const esbuild = await dependency("esbuild");
    const exported = kind === "handler" ? "handler" : "batchHandler";
    const lines = [
        `import { exportsOf } from ${JSON.stringify(path.join(GUEST, "exchange.js"))};`,
        `import * as entry from ${JSON.stringify(path.resolve(entry))};`,
        `export const ${exported} = exportsOf(entry, ${JSON.stringify(kind)});`,
    ];
    const result = await esbuild.build({
        stdin: { contents: lines.join("\n"), resolveDir: path.dirname(path.resolve(entry)), sourcefile: "sandhog-entry.js" },
        plugins: [own],
        bundle: true,
        format: "esm",
        platform: "neutral",
        mainFields: ["module", "main"],
        conditions: ["sandhog-guest", "module"],
        target: "es2023",
        supported: NOT_SUPPORTED,
        external: FROM_THE_HOST,
        define: { "process.env.NODE_ENV": '"production"', global: "globalThis" },
        keepNames: true,
        legalComments: "none",
        metafile: true,
        write: false,
        logLevel: "silent",
    }).catch((/** @type {any} */ error) => {
        throw new BuildError(explained(esbuild, error), { cause: error });
    });
    const [output] = Object.values(result.metafile.outputs);
    const external = output.imports.filter((/** @type {any} */ one) => one.external);
    const imports = external.map((/** @type {any} */ one) => one.path);
    return { source: result.outputFiles[0].text, imports: [...new Set(imports)].sort() };
}

/**
 * The package that builds is the package that is built in, wherever the module lies; and its own dependency is found also where
 * npm has linked it from another place than the project.
 */
const own = {
    name: "sandhog",
    setup(/** @type {any} */ build) {
        build.onResolve({ filter: /^sandhog$/ }, () => ({ path: path.join(PACKAGE, "src", "index.js"), sideEffects: false }));
        build.onResolve({ filter: /^promise-polyfill$/ }, () => ({
            path: fileURLToPath(located("promise-polyfill", "src/index.js")),
        }));
    },
};

/**
 * Writes the world that the component is made for: what it exports, and of what the host offers only what it imports.
 *
 * @param {string} folder
 * @param {Kind} kind
 * @param {string[]} imports
 * @param {string | undefined} more
 */
async function writeWorld(folder, kind, imports, more) {
    await cp(path.join(PACKAGE, "wit"), folder, { recursive: true });
    for (const from of [path.join(PACKAGE, "platform"), more]) {
        for (const file of from ? await readdir(from) : []) {
            await cp(path.join(/** @type {string} */ (from), file), path.join(folder, "deps", file), { recursive: true });
        }
    }
    const own = "sandhog:worker/";
    const lines = imports.map((name) => `    import ${name.startsWith(own) ? name.slice(own.length).replace(/@.*/, "") : name};`);
    const world = ["package sandhog:worker@0.1.0;", "world build {", ...lines, `    export ${kind};`, "}", ""];
    await writeFile(path.join(folder, "sandhog-build.wit"), world.join("\n"));
}

/**
 * Imports a dependency of this package.
 *
 * @param {string} name
 * @returns {Promise<any>}
 */
async function dependency(name) {
    const module = await import(located(name));
    return module.default ?? module;
}

/**
 * Returns where a dependency of this package lies: beside it, or where the build runs.
 *
 * @param {string} name
 * @param {string} [file] A file in it; what the package exports if absent.
 * @returns {string} A URL.
 */
function located(name, file) {
    for (const from of [import.meta.url, pathToFileURL(path.join(process.cwd(), "package.json"))]) {
        const require = createRequire(from);
        try {
            const found = require.resolve(file ? `${name}/package.json` : name);
            return pathToFileURL(file ? path.join(path.dirname(found), file) : found).href;
        } catch {
            continue;
        }
    }
    throw new BuildError(`${name} is not installed: run npm install`);
}

/**
 * @param {any} esbuild
 * @param {{ errors?: { text: string, notes: object[] }[], message?: string }} error
 */
function explained(esbuild, { errors, message }) {
    if (!errors) {
        return message ?? "esbuild failed";
    }
    const lines = esbuild.formatMessagesSync(errors, { kind: "error", color: false, terminalWidth: 120 });
    const asynchronous = errors.some(({ text }) => text.startsWith("Top-level await"));
    const node = errors.some(({ text }) => /^Could not resolve "(node:.*|fs|path|http|https|crypto|net|os|stream|buffer)"/.test(text));
    const hints = [
        asynchronous ? "a component has no top-level await: await inside of the handler" : "",
        node ? "a component has none of Node's own modules" : "",
    ];
    return [...lines, ...hints].filter(Boolean).join("\n");
}

/** @param {unknown} error */
function withoutWrapping(error) {
    const text = error instanceof Error ? error.message : String(error);
    return text.replace(/^.*Failed to finish JavaScript module evaluation: /s, "the module failed when it was loaded: ");
}
