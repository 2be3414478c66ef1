#!/usr/bin/env node
import path from "node:path";
import { parseArgs } from "node:util";
import { BuildError, build } from "../src/component.js";

const HELP = `Makes a sandhog component of a JavaScript or TypeScript module

Usage: sandhog-build ENTRY [-o FILE] [--small] [--with http] [--wit DIR]

  ENTRY          The module whose default export is the handler
  -o, --out      The component [default: the name of ENTRY, with .wasm, in this folder]
      --with     http: put fetch, Headers, URL and so on into the global object, for packages that look
                 for them there. Otherwise the component has those that its modules name
      --small    Take the engine that was built for size: a third smaller, half as fast
      --wit      A folder with the WIT of further interfaces that the module imports`;

async function main() {
    const { values, positionals } = parseArgs({
        allowPositionals: true,
        options: {
            out: { type: "string", short: "o" },
            small: { type: "boolean" },
            with: { type: "string" },
            wit: { type: "string" },
            help: { type: "boolean", short: "h" },
        },
    });
    if (values.help) {
        console.log(HELP);
        return;
    }
    const [entry] = positionals;
    if (!entry || positionals.length > 1) {
        throw new BuildError(`one module is built at a time\n\n${HELP}`);
    }
    if (values.with !== undefined && values.with !== "http") {
        throw new BuildError(`--with knows http, not ${values.with}: what else a module uses is seen by its imports`);
    }
    const out = values.out ?? `${path.parse(entry).name}.wasm`;
    const { small, wit } = values;
    const { kind, bytes, notes } = await build({ entry, out, small, wit, withHttp: values.with === "http" });
    console.log(`${out}: a ${kind} of ${(bytes / 1e6).toFixed(1)} MB; ${notes.join("\n")}`);
}

try {
    await main();
} catch (error) {
    const expected = error instanceof BuildError || error?.code?.startsWith?.("ERR_PARSE_ARGS");
    console.error(`sandhog-build: ${expected ? error.message : error.stack}`);
    process.exitCode = 1;
}
