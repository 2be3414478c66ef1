// Makes a program of WASI of a script: node build.js SCRIPT.rb PROGRAM.wasm

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [script, program] = process.argv.slice(2);
const ruby = "node_modules/@ruby/3.4-wasm-wasi/dist/ruby.wasm";

/** A text as Ruby has it, without anything that Ruby would replace. */
const quoted = (text) => `"${[...text].map((char) => `\\u{${char.codePointAt(0).toString(16)}}`).join("")}"`;

// Without an end of its own the program would go on in a Ruby that has ended.
const source = `
begin
  eval(${quoted(readFileSync(script, "utf8"))}, TOPLEVEL_BINDING, ${quoted(script)})
  code = 0
rescue SystemExit => error
  code = error.status
rescue Exception => error
  $stderr.puts error.backtrace.reverse.map { |frame| "  at #{frame}" }, "#{error.class}: #{error.message}"
  code = 1
end
$stdout.flush
Process.exit!(code)
`;
const bytes = [...Buffer.from(source)].map((byte) => `\\${byte.toString(16).padStart(2, "0")}`);

const place = mkdtempSync(join(tmpdir(), "ruby-"));
const assembled = (name, text) => {
    const [from, to] = [join(place, `${name}.wat`), join(place, `${name}.wasm`)];
    writeFileSync(from, text);
    execFileSync("npx", ["wasm-as", "--enable-bulk-memory", from, "-o", to]);
    return to;
};
const start = readFileSync("program.wat", "utf8").replace("SCRIPT", bytes.join("")).replaceAll("BYTES", bytes.length + 1);
const parts = [
    [ruby, "ruby"],
    [assembled("program", start), "rb-js-abi-host"],
    [assembled("handles", readFileSync("handles.wat", "utf8")), "canonical_abi"],
];
execFileSync("npx", ["wasm-merge", "--all-features", ...parts.flat(), "-o", program]);
rmSync(place, { recursive: true });
