/**
 * Makes a component of a module: esbuild bundles it with this package, componentize-qjs adds the engine.
 *
 * @module
 */

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { BuildError } from "./component/build-error.js";
import { bundle } from "./component/bundle.js";
import { dependency } from "./component/dependency.js";
import { nameImports } from "./component/engine-names.js";
import { grantNotes } from "./component/grants.js";
import { swept, withoutNames } from "./component/snapshot.js";
import { writeWorld } from "./component/world.js";

export { BuildError };

/** What `exchange.js` says in a build for the kind of handler that the module is not. */
const OTHER_KIND = /sandhog: the default export is a (handler|batch-handler)/;

/** @typedef {import("./component/bundle.js").Kind} Kind */

/**
 * @typedef {object} BuildOptions
 * @property {string} entry The module whose default export is the handler; JavaScript or TypeScript.
 * @property {string} out The component to write.
 * @property {string} [wit] A folder with the WIT of further interfaces that the module imports.
 * @property {boolean} [small] Chooses the engine that was built for size: a third smaller, half as fast.
 * @property {boolean} [withHttp] Puts `fetch` and what belongs to it into `globalThis`, for packages that look there.
 */

/**
 * @param {BuildOptions} options
 * @returns {Promise<{ kind: Kind, bytes: number, notes: string[] }>} `notes`: what the manifest has to grant, and does not.
 */
export async function build(options) {
    const folder = await mkdtemp(path.join(tmpdir(), "sandhog-build-"));
    try {
        const build = (/** @type {Kind} */ kind) => componentOf(kind, folder, options);
        const { kind, component, imports } = await build("handler").catch((error) => {
            const other = OTHER_KIND.exec(String(error));
            if (!other) {
                throw error;
            }
            return build("batch-handler");
        });
        await writeFile(options.out, component);
        return { kind, bytes: component.length, notes: await grantNotes(imports, options.out, options.entry) };
    } finally {
        await rm(folder, { recursive: true, force: true });
    }
}

/**
 * @param {Kind} kind
 * @param {string} folder
 * @param {BuildOptions} options
 */
async function componentOf(kind, folder, { entry, wit, small = false, withHttp = false }) {
    const { source, imports } = await bundle(entry, kind, withHttp);
    const witPath = path.join(folder, kind);
    await writeWorld(witPath, kind, imports, wit);
    const { componentize } = await dependency("componentize-qjs");
    try {
        const options = { witPath, world: "build", jsSource: swept(source), sync: true, optSize: small };
        const made = await componentize(options);
        const component = withoutNames(made.component);
        nameImports(component);
        return { kind, component, imports };
    } catch (error) {
        throw new BuildError(withoutWrapping(error), { cause: error });
    }
}

/** @param {unknown} error */
function withoutWrapping(error) {
    const text = error instanceof Error ? error.message : String(error);
    return text.replace(/^.*Failed to finish JavaScript module evaluation: /s, "the module failed when it was loaded: ");
}
