import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import test from "node:test";
import { build } from "../src/component.js";
import { bundle } from "../src/component/bundle.js";
import { grantNotes } from "../src/component/grants.js";
import { placeOf } from "../src/line-table.js";

/** Writes modules into a folder of their own. */
function project(t, files) {
    const folder = mkdtempSync(path.join(tmpdir(), "sandhog-test-"));
    t.after(() => rmSync(folder, { recursive: true }));
    for (const [name, text] of Object.entries(files)) {
        writeFileSync(path.join(folder, name), text);
    }
    return (name) => path.join(folder, name);
}

const granted = (imports) => imports.filter((name) => /^sandhog:worker\/sender|^wasi:(keyvalue|config)|^w.*:http/.test(name));

test("a_handler_imports_what_it_uses_and_nothing_else", async (t) => {
    const cases = {
        "nothing.js": ["", []],
        "errors.js": ['import { FetchError, KeyValueError } from "sandhog"; globalThis.x = [FetchError, KeyValueError];', []],
        "send.js": ['import { send } from "sandhog"; send("q", "");', ["sandhog:worker/sender@0.1.0"]],
        "http.js": ["fetch('http://x');", ["wazi:http/outgoing-handler@0.2.11", "wazi:http/types@0.2.11"]],
        "global.js": ["globalThis.fetch('http://x');", ["wazi:http/outgoing-handler@0.2.11", "wazi:http/types@0.2.11"]],
        "own.js": ["const fetch = (x) => x; fetch('http://x');", []],
        "url.js": ["globalThis.x = new URL('http://x').searchParams;", []],
        "event.js": ["new EventTarget().dispatchEvent(new globalThis.Event('x'));", []],
        "config.js": ['import { config } from "sandhog"; config.get("x");', ["wasi:config/store@0.2.0-rc.1"]],
        "keyvalue.js": [
            'import { keyvalue } from "sandhog"; keyvalue.open().get("x");',
            ["atomics", "batch", "store"].map((name) => `wasi:keyvalue/${name}@0.2.0-draft2`),
        ],
    };
    const files = Object.entries(cases).map(([name, [text]]) => [name, `${text}\nexport default function handle() {}`]);
    const at = project(t, Object.fromEntries(files));
    for (const [name, [, imports]] of Object.entries(cases)) {
        assert.deepEqual(granted((await bundle(at(name), "handler", false)).imports), imports, name);
    }
    assert.equal(granted((await bundle(at("nothing.js"), "handler", true)).imports).length, 2);
});

test("a_place_in_the_bundle_leads_to_the_authors_line", async (t) => {
    const at = project(t, {
        "price.ts": "// A comment that the bundle leaves out.\nexport const price = (item: { cost: number }): number => {\n\n    return item.cost;\n};\n",
        "handler.ts": 'import { price } from "./price.js";\nexport default function handle(): void {\n    console.log(price({ cost: 1 }));\n}\n',
    });
    const { source } = await bundle(at("handler.ts"), "handler", false);
    const table = JSON.parse(JSON.parse(/"sandhog\.lines"\)\]=(".*");\n/.exec(source)[1]));
    const place = (text) => {
        const before = source.slice(0, source.indexOf(text)).split("\n");
        const found = placeOf(table, before.length, before.at(-1).length + 1);
        return found && [path.basename(found.source), found.line];
    };
    assert.deepEqual(place("item.cost"), ["price.ts", 4]);
    assert.deepEqual(place("console.log(price"), ["handler.ts", 3]);
    assert.equal(place("handleBatch"), undefined);
});

test("a_module_imports_interfaces_of_the_host_by_name", async (t) => {
    const at = project(t, {
        "handler.js": `
            import { Fields } from "wasi:http/types@0.2.12";
            import { ask } from "wasi:demo/one@1.0.0";
            export default function handle() { ask(new Fields()); }`,
    });
    mkdirSync(at("wit/demo"), { recursive: true });
    writeFileSync(at("wit/demo/one.wit"), "package wasi:demo@1.0.0;\ninterface one { use wasi:http/types@0.2.12.{fields}; use two.{answer}; ask: func(what: fields) -> answer; }");
    writeFileSync(at("wit/demo/two.wit"), "interface two { type answer = u32; }");
    await build({ entry: at("handler.js"), out: at("handler.wasm"), wit: at("wit") });
    const component = readFileSync(at("handler.wasm"));
    assert.ok(component.includes("wasi:demo/one@1.0.0") && component.includes("wasi:http/types@0.2.11"));
});

test("a_package_that_can_not_run_in_a_component_is_refused_by_name", async (t) => {
    const at = project(t, {
        "native.js": 'import x from "pictures"; export default () => x;',
        "node.js": 'import "@people/sockets"; export default () => {};',
        "own.js": 'import "node:fs"; export default () => {};',
        "file.js": 'import x from "./build.node"; export default () => x;',
        "build.node": "",
        "wrong.js": 'import "@people/sockets"; import "./nowhere.js"; export default () => {};',
    });
    const packages = {
        "pictures/package.json": '{ "name": "pictures", "main": "index.js" }',
        "pictures/index.js": 'require("fs"); module.exports = require("./build/Release/pictures.node");',
        "pictures/build/Release/pictures.node": "",
        "@people/sockets/package.json": '{ "name": "@people/sockets", "main": "index.js" }',
        "@people/sockets/index.js": 'require("tls"); require("net"); require("node:test/reporters");',
    };
    for (const [name, text] of Object.entries(packages)) {
        mkdirSync(path.dirname(at(`node_modules/${name}`)), { recursive: true });
        writeFileSync(at(`node_modules/${name}`), text);
    }
    const refusal = async (name) => {
        const error = await bundle(at(name), "handler", false).catch((error) => error);
        assert.equal(error.constructor.name, "BuildError", `${error}`);
        return error.message;
    };
    assert.equal(
        await refusal("native.js"),
        "the package pictures has native code (pictures.node), and a component runs none: choose one in plain JavaScript",
    );
    const sockets =
        "the package @people/sockets needs Node's own net, test/reporters, tls, and a component has none of it: choose one that runs in browsers";
    assert.equal(await refusal("node.js"), sockets);
    assert.equal(await refusal("file.js"), "build.node is native code, and a component runs none");
    assert.match(await refusal("own.js"), /own\.js:1:7[^]*a component has none of Node's own modules$/);
    assert.doesNotMatch(await refusal("own.js"), /platform/);
    const wrong = await refusal("wrong.js");
    assert.ok(wrong.includes("nowhere.js") && wrong.endsWith(sockets), wrong);
});

test("a_component_has_its_imports_under_their_own_names", async (t) => {
    const at = project(t, { "handler.js": "export default async function handle() { await fetch('http://x'); }" });
    const { kind, bytes } = await build({ entry: at("handler.js"), out: at("handler.wasm") });
    const component = readFileSync(at("handler.wasm"));
    assert.deepEqual([kind, bytes], ["handler", component.length]);
    for (const [name, is] of [["wasi:http/outgoing-handler@0.2.11", true], ["wazi:http/", false], ["wazi:io/", false], ["component-name", false]]) {
        assert.equal(component.includes(name), is, name);
    }
});

test("a_request_of_the_top_level_is_refused_by_the_build", async (t) => {
    const early = 'const answer = fetch("http://api.test/"); export default async function handle() { await answer; }';
    const at = project(t, { "early.js": early });
    await assert.rejects(build({ entry: at("early.js"), out: at("early.wasm") }), /there is no network before a message is handled/);
});

test("the_build_says_what_the_manifest_lacks_and_what_it_grants_in_vain", async (t) => {
    const imports = ["sandhog:worker/sender@0.1.0", "wazi:http/types@0.2.11", "wazi:io/poll@0.2.11"];
    const notes = async (manifest, needed = imports) => {
        const at = project(t, manifest === undefined ? {} : { "orders.toml": manifest });
        const lines = await grantNotes(needed, at("orders.wasm"), at("handler.js"));
        return lines.map((line) => line.replace(/\S*orders\.toml/, "orders.toml"));
    };
    assert.deepEqual(await notes(undefined), ["needs in [grant]: send, http; there is no orders.toml to compare with"]);
    assert.deepEqual(await notes('[grant]\nsend = ["x"]\nkeyvalue = true'), [
        "needs in [grant]: send, http",
        'orders.toml does not grant http: the host will refuse the component. Add to [grant]: http = ["https://api.example.com"]',
        "orders.toml grants keyvalue, which the component does not use",
    ]);
    assert.deepEqual(await notes('[grant]\nenv = { MODE = "fast" }\ndirs = []', []), [
        "needs no grant",
        "orders.toml grants env, which has no effect in JavaScript",
        "orders.toml grants dirs, which has no effect in JavaScript",
    ]);
    assert.deepEqual(await notes('[grant]\nsend = []\nhttp = []'), ["needs in [grant]: send, http"]);
    assert.deepEqual(await notes("queue = 1", []), ["needs no grant"]);
    assert.match((await notes("[grant"))[1], /^orders.toml can't be read: /);
});
