// The program, run by Node as the host runs it: the body is its standard input, its exit code the verdict.

import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { WASI } from "node:wasi";

const module = await WebAssembly.compile(readFileSync(new URL("tally.wasm", import.meta.url)));

/** What the program prints, says and ends with. */
async function run(body) {
    const place = mkdtempSync(join(tmpdir(), "tally-"));
    const path = (name) => join(place, name);
    writeFileSync(path("in"), body);
    const [stdin, stdout, stderr] = [openSync(path("in"), "r"), openSync(path("out"), "w"), openSync(path("err"), "w")];
    const wasi = new WASI({ version: "preview1", returnOnExit: true, stdin, stdout, stderr });
    const code = wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject())) ?? 0;
    for (const file of [stdin, stdout, stderr]) closeSync(file);
    const [printed, said] = [readFileSync(path("out"), "utf8"), readFileSync(path("err"), "utf8")];
    rmSync(place, { recursive: true });
    return { code, lines: printed.split("\n").filter((line) => line).map((line) => JSON.parse(line)), said: said.trim() };
}

const HEADER = "article,quantity,price\n";

test("the sales of an article are added up", async () => {
    const { code, lines } = await run(`${HEADER}Cup,2,4.50\nBowl,1,19.9\nCup,10,4\n`);
    assert.equal(code, 0);
    assert.deepEqual(lines, [
        { article: "Cup", quantity: 12, cents: 4900 },
        { article: "Bowl", quantity: 1, cents: 1990 },
    ]);
});

test("a name may hold commas, quotes and line ends", async () => {
    const name = 'Bowl, "blue"\r\nwith\ta lid ☃';
    const { lines } = await run(`\uFEFF${HEADER.replace("\n", "\r\n")}"${name.replaceAll('"', '""')}",1,1\r\n`);
    assert.deepEqual(lines, [{ article: name, quantity: 1, cents: 100 }]);
});

test("the columns are known by their names", async () => {
    const { lines } = await run("price,till,quantity,article\n2,7,3,Cup");
    assert.deepEqual(lines, [{ article: "Cup", quantity: 3, cents: 600 }]);
});

for (const [body, reason] of [
    ["", "the table is empty"],
    ["article,price\n", 'the first line names no column "quantity"'],
    [`${HEADER}Cup,2,4.50\nCup,two,1\n`, 'line 3: "two" is no quantity'],
    [`${HEADER}"a\nb",1,1\nCup,1,1.005\n`, 'line 4: "1.005" is no price'],
    [`${HEADER}Cup,-1,1\n`, 'line 2: "-1" is no quantity'],
    [`${HEADER}Cup,1\n`, "line 2 has 2 fields, and the first line has 3"],
    [`${HEADER}"Cup,1,1\n`, "line 2: a quote is never closed"],
    [`${HEADER}"Cup"s,1,1\n`, "line 2: text after a closing quote"],
]) {
    test(`a table is rejected: ${reason}`, async () => {
        assert.deepEqual(await run(body), { code: 65, lines: [], said: reason });
    });
}
