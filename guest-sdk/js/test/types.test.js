import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import test from "node:test";

const root = path.resolve(import.meta.dirname, "..");
const tsc = (...options) => execFileSync(path.join(root, "node_modules", ".bin", "tsc"), options, { cwd: root });
const files = (folder) => readdirSync(folder, { recursive: true }).filter((name) => name.endsWith(".d.ts")).sort();

test("the_types_are_those_of_the_sources", (t) => {
    const fresh = mkdtempSync(path.join(tmpdir(), "sandhog-types-"));
    t.after(() => rmSync(fresh, { recursive: true }));
    tsc("-p", ".", "--outDir", fresh);
    const types = path.join(root, "types");
    assert.deepEqual(files(types), files(fresh), "run `npm run types`");
    for (const name of files(fresh)) {
        const [ours, theirs] = [types, fresh].map((folder) => readFileSync(path.join(folder, name), "utf8"));
        assert.equal(ours, theirs, `${name}: run \`npm run types\``);
    }
});

test("the_sources_of_the_component_have_their_types", () => {
    tsc("-p", "tsconfig.guest.json");
});
