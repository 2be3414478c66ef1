/**
 * What esbuild says of a module that it can't bundle, in words about the packages that the author chose.
 *
 * @module
 */

import { builtinModules } from "node:module";

/** @typedef {{ text: string, location: { file: string } | null, notes: object[] }} EsbuildError */

const NATIVE = /^No loader is configured for "\.node" files: (.*)$/;
const UNRESOLVED = /^Could not resolve "(?:node:)?([^"]+)"/;

/**
 * Returns what hinders the bundle: one line for a package that can't run in a component, and esbuild's own text for what is
 * wrong in the author's modules.
 *
 * @param {any} esbuild
 * @param {EsbuildError[]} errors
 * @returns {string}
 */
export function explained(esbuild, errors) {
    /** @type {Map<string, string>} */
    const native = new Map();
    /** @type {Map<string, Set<string>>} */
    const ofNode = new Map();
    const others = [];
    for (const error of errors) {
        const file = NATIVE.exec(error.text)?.[1];
        const name = packageOf(file ?? error.location?.file ?? "");
        const module = builtin(error.text);
        if (name && file) {
            native.set(name, file.slice(file.lastIndexOf("/") + 1));
        } else if (name && module) {
            ofNode.set(name, (ofNode.get(name) ?? new Set()).add(module));
        } else if (file) {
            native.set("", file.slice(file.lastIndexOf("/") + 1));
        } else {
            // Its notes name options of esbuild, which nobody can give here.
            others.push({ ...error, notes: [] });
        }
    }
    const lines = esbuild.formatMessagesSync(others, { kind: "error", color: false, terminalWidth: 120 });
    if (others.some(({ text }) => text.startsWith("Top-level await"))) {
        lines.push("a component has no top-level await: await inside of the handler");
    }
    if (others.some(({ text }) => builtin(text))) {
        lines.push("a component has none of Node's own modules");
    }
    for (const [name, file] of native) {
        lines.push(
            name
                ? `the package ${name} has native code (${file}), and a component runs none: choose one in plain JavaScript`
                : `${file} is native code, and a component runs none`,
        );
    }
    for (const [name, modules] of ofNode) {
        if (!native.has(name)) {
            const names = [...modules].sort().join(", ");
            lines.push(`the package ${name} needs Node's own ${names}, and a component has none of it: choose one that runs in browsers`);
        }
    }
    return lines.join("\n");
}

/**
 * Returns the package of a file, or nothing for the author's own.
 *
 * @param {string} file
 */
function packageOf(file) {
    const below = file.split(/[\\/]node_modules[\\/]|^node_modules[\\/]/).slice(1).at(-1);
    return below?.match(/^(?:@[^\\/]+[\\/])?[^\\/]+/)?.[0];
}

/**
 * Returns the module of Node that could not be resolved.
 *
 * @param {string} text
 */
function builtin(text) {
    const name = UNRESOLVED.exec(text)?.[1];
    return builtinModules.includes(name ?? "") || text.startsWith('Could not resolve "node:') ? name : undefined;
}
