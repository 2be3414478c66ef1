/**
 * Bundles a module with this package and all else that it needs.
 *
 * @module
 */

import path from "node:path";
import { fileURLToPath } from "node:url";
import { BuildError } from "./build-error.js";
import { explained } from "./bundle-errors.js";
import { BUNDLED, ENTRY } from "./bundled.js";
import { dependency, fileOf } from "./dependency.js";
import { specifierInBuild } from "./engine-names.js";
import { withLines } from "./lines.js";

const SOURCES = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const GUEST = path.join(SOURCES, "guest");
const INJECTED = path.join(GUEST, "web", "inject.js");
/** Asynchronous functions are rewritten into promises, which this package brings. */
const NOT_SUPPORTED = { "async-await": false, "async-generator": false, "for-await": false };
/** What `web/inject.js` has. */
const GLOBALS = [
    "AbortController",
    "AbortSignal",
    "Blob",
    "Event",
    "EventTarget",
    "Headers",
    "ReadableStream",
    "Request",
    "Response",
    "URL",
    "URLSearchParams",
    "fetch",
    "structuredClone",
];
/** @typedef {"handler" | "batch-handler"} Kind */

/**
 * @typedef {object} Bundle
 * @property {string} source
 * @property {string[]} imports What it imports from the host.
 */

/**
 * Returns the module and all that it needs as one source.
 *
 * @param {string} entry
 * @param {Kind} kind
 * @param {boolean} withWeb Whether `globalThis` gets the globals of the web, for code that looks for them there.
 * @returns {Promise<Bundle>}
 */
export async function bundle(entry, kind, withWeb) {
    const esbuild = await dependency("esbuild");
    const exported = kind === "handler" ? "handler" : "batchHandler";
    const lines = [
        withWeb ? `import ${JSON.stringify(path.join(GUEST, "web", "globals.js"))};` : "",
        `import { exportsOf } from ${JSON.stringify(path.join(GUEST, "exchange.js"))};`,
        `import * as entry from ${JSON.stringify(path.resolve(entry))};`,
        `export const ${exported} = exportsOf(entry, ${JSON.stringify(kind)});`,
    ];
    const root = process.cwd();
    const options = {
        stdin: { contents: lines.join("\n"), resolveDir: path.dirname(path.resolve(entry)), sourcefile: ENTRY },
        plugins: [own, host],
        inject: [INJECTED],
        bundle: true,
        format: "esm",
        platform: "browser",
        // Of what a package has for several places, that for workers on the web fits best: it needs nothing of Node.
        mainFields: ["browser", "module", "main"],
        conditions: ["sandhog-guest", "worker", "module"],
        target: "es2023",
        supported: NOT_SUPPORTED,
        define: { "process.env.NODE_ENV": '"production"', global: "globalThis", ...membersOfGlobals() },
        keepNames: true,
        minifySyntax: true,
        minifyWhitespace: true,
        legalComments: "none",
        metafile: true,
        sourcemap: "external",
        sourcesContent: false,
        write: false,
        outdir: root,
        logLevel: "silent",
    };
    const result = await esbuild.build(options).catch((/** @type {any} */ error) => {
        const text = error.errors ? explained(esbuild, error.errors) : (error.message ?? "esbuild failed");
        throw new BuildError(text, { cause: error });
    });
    const output = Object.values(result.metafile.outputs).find(({ imports }) => imports.length > 0) ?? { imports: [] };
    const external = output.imports.filter((/** @type {any} */ one) => one.external);
    const names = external.map((/** @type {any} */ one) => one.path);
    const [map, source] = result.outputFiles.map((/** @type {any} */ file) => file.text);
    return { source: withLines(source, JSON.parse(map), root), imports: [...new Set(names)].sort() };
}

/** `globalThis.fetch` means the same as `fetch`, whatever the global object is called. */
function membersOfGlobals() {
    const objects = ["globalThis", "global", "self", "window"];
    return Object.fromEntries(objects.flatMap((object) => GLOBALS.map((name) => [`${object}.${name}`, name])));
}

/**
 * The package that builds is the package that is built in, wherever the module lies; and its own dependencies are found also
 * where npm has linked it from another place than the project.
 */
const own = {
    name: "sandhog",
    setup(/** @type {any} */ build) {
        build.onResolve({ filter: /^sandhog$/ }, () => ({ path: path.join(SOURCES, "index.js"), sideEffects: false }));
        for (const [name, file] of Object.entries(BUNDLED)) {
            build.onResolve({ filter: new RegExp(`^${name}$`) }, (/** @type {any} */ { importer }) =>
                importer.startsWith(SOURCES) ? { path: fileOf(name, file), sideEffects: false } : undefined,
            );
        }
    },
};

/** What the host has stays an import, under the name that it has while the component is made. */
const host = {
    name: "host",
    setup(/** @type {any} */ build) {
        build.onResolve({ filter: /^(sandhog|wasi):/ }, (/** @type {any} */ { path: name }) => ({
            path: specifierInBuild(name),
            external: true,
            sideEffects: false,
        }));
    },
};
