import assert from "node:assert/strict";
import test from "node:test";

// What the engine has and Node 20 has not.
Uint8Array.prototype.toBase64 ??= function () {
    return Buffer.from(this).toString("base64");
};
Uint8Array.fromBase64 ??= (text) => new Uint8Array(Buffer.from(text, "base64"));

const { Decoder, Encoder } = await import("../src/guest/encoding.js");

const TEXTS = ["", "plain", "späde für Öl", "日本語 😀", "\ufeffmark", "\0\x7f\x80\u07ff\u0800\uffff\u{10000}\u{10ffff}"];
const ODD = [[0xff], [0x61, 0xc3], [0xe2, 0x82, 0x61], [0xed, 0xa0, 0x80], [0xf0, 0x9f, 0x98, 0x61], [0xf4, 0x90, 0x80, 0x80], [0xc0, 0x80], [0xe0, 0x80, 0x80]];

test("text_is_encoded_as_everywhere", () => {
    for (const text of [...TEXTS, "lone \ud800 surrogate"]) {
        assert.deepEqual(new Encoder().encode(text), new TextEncoder().encode(text), JSON.stringify(text));
    }
});

test("bytes_are_decoded_as_everywhere", () => {
    const random = Array.from({ length: 2000 }, (_, seed) => Array.from({ length: 6 }, (_, n) => ((seed + 1) * 7919 * (n + 3) * 31 + seed * n) % 256));
    for (const bytes of [...TEXTS.map((text) => [...new TextEncoder().encode(text)]), ...ODD, ...random]) {
        for (const options of [{}, { ignoreBOM: true }, { fatal: true }]) {
            const decode = (Kind) => {
                try {
                    return new Kind("utf-8", options).decode(new Uint8Array(bytes));
                } catch (error) {
                    return error.name;
                }
            };
            assert.equal(decode(Decoder), decode(TextDecoder), `${bytes} ${JSON.stringify(options)}`);
        }
    }
});

test("another_encoding_is_refused", () => {
    assert.throws(() => new Decoder("latin1"), /no decoder for latin1/);
});
