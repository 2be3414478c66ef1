import assert from "node:assert/strict";
import test from "node:test";
import { Retry } from "../src/failure.js";
import { FetchError } from "../src/fetch-error.js";
import { AbortController, AbortSignal } from "../src/guest/web/abort.js";
import { Blob } from "../src/guest/web/blob.js";
import { fetchOn } from "../src/guest/web/fetch.js";
import { Headers } from "../src/guest/web/headers.js";
import { Request } from "../src/guest/web/request.js";
import { Response } from "../src/guest/web/response.js";
import { ReadableStream } from "../src/guest/web/stream.js";
import { URL, URLSearchParams } from "../src/guest/web/url.js";
import { failureOf } from "../src/verdict.js";
import { reasonOf } from "../src/reason.js";

const bytes = (text) => new TextEncoder().encode(text);

/** A `fetch` whose server is a function from a request to `[status, headers, pieces of the body]`. */
function served(answer) {
    const seen = [];
    const drops = [];
    const fetch = fetchOn((hop) => {
        let [fail, ended] = [() => {}, false];
        const failed = new Promise((_, reject) => (fail = reject));
        failed.catch(() => {});
        const answered = async () => {
            const pieces = [];
            for await (const piece of hop.body instanceof Uint8Array ? [hop.body] : (hop.body ?? [])) {
                pieces.push(piece);
            }
            const { method, url, headers } = hop;
            const request = { method, url: url.href, headers: Object.fromEntries(headers), body: Buffer.concat(pieces).toString() };
            seen.push(request);
            const [status, fields = {}, chunks = []] = await answer(request);
            const left = [...chunks];
            return {
                status,
                headers: Object.entries(fields),
                read: () => Promise.race([failed, Promise.resolve(left.shift()).then((one) => (typeof one === "string" ? bytes(one) : one))]),
            };
        };
        return {
            answer: () => Promise.race([failed, answered()]),
            drop(reason) {
                if (!ended) {
                    ended = true;
                    drops.push(hop.url.href);
                    fail(reason);
                }
            },
        };
    });
    return { fetch, seen, drops };
}

test("a_response_is_read_as_text_json_and_bytes", async () => {
    const { fetch } = served(() => [200, { "content-type": "application/json" }, ['{"a"', ":1}"]]);
    const response = await fetch("http://api.test/x?y=1#z");
    assert.deepEqual([response.status, response.ok, response.url, response.redirected], [200, true, "http://api.test/x?y=1#z", false]);
    assert.deepEqual(await response.json(), { a: 1 });
    assert.equal(response.bodyUsed, true);
    await assert.rejects(response.text(), /read already/);
    assert.equal(await (await fetch("http://api.test")).text(), '{"a":1}');
    assert.equal((await (await fetch("http://api.test")).arrayBuffer()).byteLength, 7);
    const blob = await (await fetch("http://api.test")).blob();
    assert.deepEqual([blob.size, blob.type, await blob.slice(1, 4).text()], [7, "application/json", '"a"']);
});

test("a_body_goes_out_in_each_of_its_forms", async () => {
    const { fetch, seen } = served(() => [204]);
    const post = (body) => fetch("http://api.test", { method: "post", body });
    await post("text ä");
    await post(new URLSearchParams({ a: "1 2" }));
    await post(bytes("bytes"));
    await post(bytes("buffer").buffer);
    await post(new Blob(["blo", bytes("b")], { type: "Text/X" }));
    await post((async function* () {
        yield bytes("as");
        yield "ync";
    })());
    await post(ReadableStream.from(["stre", "am"]));
    await fetch(new Request("http://api.test", { method: "PUT", body: "request" }));
    assert.deepEqual(
        seen.map(({ method, body, headers }) => [method, body, headers["content-type"]]),
        [
            ["POST", "text ä", "text/plain;charset=UTF-8"],
            ["POST", "a=1+2", "application/x-www-form-urlencoded;charset=UTF-8"],
            ["POST", "bytes", undefined],
            ["POST", "buffer", undefined],
            ["POST", "blob", "text/x"],
            ["POST", "async", undefined],
            ["POST", "stream", undefined],
            ["PUT", "request", "text/plain;charset=UTF-8"],
        ],
    );
});

test("a_redirect_is_followed_without_what_the_other_origin_must_not_see", async () => {
    const { fetch, seen, drops } = served(({ url }) =>
        url.endsWith("/a") ? [302, { location: "/b" }, ["moved"]] : url.endsWith("/b") ? [307, { location: "http://other.test/c" }] : [200, {}, ["end"]],
    );
    const response = await fetch("http://api.test/a", { method: "POST", body: "x", headers: { authorization: "secret", "x-mine": "1" } });
    assert.deepEqual([response.url, response.redirected, await response.text()], ["http://other.test/c", true, "end"]);
    assert.deepEqual(
        seen.map(({ method, body, headers }) => [method, body, headers.authorization, headers["x-mine"], headers["content-type"]]),
        [
            ["POST", "x", "secret", "1", "text/plain;charset=UTF-8"],
            ["GET", "", "secret", "1", undefined],
            ["GET", "", undefined, "1", undefined],
        ],
    );
    assert.deepEqual(drops, ["http://api.test/a", "http://api.test/b", "http://other.test/c"]);
});

test("a_redirect_that_keeps_its_method_keeps_its_body", async () => {
    const { fetch, seen } = served(({ url }) => (url.endsWith("/a") ? [308, { location: "b" }] : [200]));
    await fetch("http://api.test/a", { method: "PUT", body: "x" });
    assert.deepEqual(seen.map(({ method, body }) => [method, body]), [["PUT", "x"], ["PUT", "x"]]);
    await assert.rejects(fetch("http://api.test/a", { method: "PUT", body: ReadableStream.from(["x"]) }), /can't be sent twice/);
});

test("a_redirect_is_an_answer_or_an_error_if_that_is_asked_for", async () => {
    const { fetch } = served(() => [301, { location: "/again" }]);
    const response = await fetch("http://api.test", { redirect: "manual" });
    assert.deepEqual([response.status, response.headers.get("location")], [301, "/again"]);
    await assert.rejects(fetch("http://api.test", { redirect: "error" }), /redirects are errors/);
    await assert.rejects(fetch("http://api.test"), /more than 20 times/);
});

test("a_redirect_that_leads_nowhere_is_an_error_of_the_server_and_tells_no_secret", async () => {
    const secret = "s3cret";
    const asked = async (location, init) => {
        const { fetch } = served(() => [307, { location }]);
        return fetch(`http://api.test/a?token=${secret}#${secret}`, init).catch((error) => error);
    };
    for (const [location, init, why] of [
        [`/a?token=${secret}`, {}, /^GET http:\/\/api\.test\/a: it redirects more than 20 times$/],
        [`/b?token=${secret}`, { redirect: "error" }, /^GET http:\/\/api\.test\/a: it redirects, and redirects are errors here$/],
        [`http://[${secret}`, {}, /^GET http:\/\/api\.test\/a: it redirects to what is no URL$/],
        [`ftp://api.test/${secret}`, {}, /^GET http:\/\/api\.test\/a: it redirects to ftp:, and fetch knows http: and https:$/],
        ["/b", { method: "PUT", body: ReadableStream.from(["x"]) }, /^PUT http:\/\/api\.test\/a: it redirects .* can't be sent twice$/],
    ]) {
        const error = await asked(location, init);
        assert.ok(error instanceof FetchError && error instanceof TypeError, `${error}`);
        assert.equal(error.kind, "protocol");
        assert.match(error.message, why);
        assert.doesNotMatch(`${error.stack} ${error.cause?.stack} ${error.cause?.input}`, new RegExp(secret));
        assert.equal(failureOf(error).constructor, Retry);
    }
});

test("an_error_shows_no_query_of_an_address", async () => {
    const { fetch } = served(({ url }) => [307, { location: url.includes("bad") ? "http://a b/?token=s3cret" : "/again?token=s3cret" }]);
    const stream = () => ({ method: "PUT", body: ReadableStream.from(["x"]) });
    for (const [url, init] of [
        ["http://api.test/x?token=s3cret", { redirect: "error" }],
        ["http://api.test/x?token=s3cret", {}],
        ["http://api.test/x?token=s3cret", stream()],
        ["http://api.test/bad?token=s3cret", {}],
        ["/x?token=s3cret", {}],
    ]) {
        const error = await fetch(url, init).catch((error) => error);
        assert.ok(!reasonOf(error).includes("s3cret"), reasonOf(error));
    }
});

test("a_signal_ends_a_request_and_a_body", async () => {
    const { fetch, drops } = served(({ url }) => (url.endsWith("/never") ? new Promise(() => {}) : [200, {}, ["one", new Promise(() => {})]]));
    await assert.rejects(fetch("http://api.test", { signal: AbortSignal.abort() }), { name: "AbortError" });
    await assert.rejects(fetch("http://api.test/never", { signal: AbortSignal.timeout(1) }), { name: "TimeoutError" });
    const controller = new AbortController();
    const response = await fetch("http://api.test/slow", { signal: controller.signal });
    const reader = response.body.getReader();
    assert.deepEqual((await reader.read()).value, bytes("one"));
    controller.abort(new Error("enough"));
    await assert.rejects(reader.read(), /enough/);
    assert.deepEqual(drops, ["http://api.test/never", "http://api.test/slow"]);
});

test("any_of_several_signals_ends_a_request", async () => {
    const { fetch } = served(() => new Promise(() => {}));
    const controller = new AbortController();
    const answer = fetch("http://api.test", { signal: AbortSignal.any([new AbortController().signal, controller.signal]) });
    controller.abort("stop");
    await assert.rejects(answer, (reason) => reason === "stop");
});

test("a_response_that_nobody_reads_is_read_ahead_so_that_it_does_not_keep_others_waiting", async () => {
    const { fetch, drops } = served(() => [200, {}, ["small"]]);
    const response = await fetch("http://api.test/");
    await new Promise((resolve) => setTimeout(resolve));
    assert.deepEqual(drops, ["http://api.test/"]);
    assert.equal(await response.text(), "small");
});

test("a_body_that_is_not_wanted_is_dropped", async () => {
    const { fetch, drops } = served(() => [200, {}, Array(100).fill("x".repeat(10_000))]);
    const response = await fetch("http://api.test/");
    for await (const piece of response.body) {
        assert.equal(piece.length, 10_000);
        break;
    }
    assert.deepEqual(drops, ["http://api.test/"]);
    const cancelled = await fetch("http://api.test/2");
    await cancelled.body.cancel();
    assert.deepEqual(drops, ["http://api.test/", "http://api.test/2"]);
});

test("a_copy_of_a_response_has_the_same_body", async () => {
    const { fetch } = served(() => [200, {}, ["one", "two"]]);
    const response = await fetch("http://api.test");
    const copy = response.clone();
    assert.deepEqual(await Promise.all([response.text(), copy.text()]), ["onetwo", "onetwo"]);
});

test("what_is_no_request_is_refused", async () => {
    const { fetch, seen } = served(() => [200]);
    for (const [input, init, why] of [
        ["nowhere", {}, /"nowhere" is no URL/],
        ["http://user:secret@api.test", {}, /authorization/],
        ["ftp://api.test", {}, /not ftp:/],
        ["http://api.test", { body: "x" }, /a GET request has no body/],
        ["http://api.test", { method: "CON NECT" }, /no method/],
        ["http://api.test", { headers: { "a b": "c" } }, /no name of a header/],
        ["http://api.test", { headers: { a: "b\nc" } }, /a character that a header can't have/],
    ]) {
        await assert.rejects(fetch(input, init), (error) => error instanceof TypeError && why.test(error.message));
    }
    assert.deepEqual(seen, []);
});

test("headers_are_those_of_the_web", () => {
    const headers = new Headers([["B", " 2 "], ["a", "1"], ["Set-Cookie", "x=1"], ["set-cookie", "y=2"]]);
    headers.append("b", "3");
    assert.deepEqual([...headers], [["a", "1"], ["b", "2, 3"], ["set-cookie", "x=1"], ["set-cookie", "y=2"]]);
    assert.deepEqual([headers.get("SET-COOKIE"), headers.getSetCookie()], ["x=1, y=2", ["x=1", "y=2"]]);
    headers.set("b", "4");
    headers.delete("A");
    assert.deepEqual([headers.get("b"), headers.get("a"), headers.has("a")], ["4", null, false]);
    assert.deepEqual([...new Headers(headers).keys()], ["b", "set-cookie", "set-cookie"]);
});

test("a_response_can_be_made", async () => {
    const response = Response.json({ a: 1 }, { status: 201 });
    assert.deepEqual([response.status, response.headers.get("content-type"), await response.json()], [201, "application/json", { a: 1 }]);
    assert.throws(() => new Response("x", { status: 204 }), /has no body/);
    assert.equal(new Response().body, null);
});

test("a_stream_passes_on_what_its_source_makes", async () => {
    let [next, cancelled] = [0, undefined];
    const counting = () =>
        new ReadableStream({
            pull: (controller) => (next < 3 ? controller.enqueue(next++) : controller.close()),
            cancel: (reason) => (cancelled = reason),
        });
    const read = [];
    for await (const one of counting()) {
        read.push(one);
    }
    assert.deepEqual(read, [0, 1, 2]);
    next = 0;
    const [left, right] = counting().tee();
    assert.deepEqual([await Array.fromAsync?.(left) ?? [0, 1, 2], (await right.getReader().read()).value], [[0, 1, 2], 0]);
    next = 0;
    const stream = counting();
    const reader = stream.getReader();
    assert.throws(() => stream.getReader(), /locked/);
    await reader.cancel("no more");
    assert.equal(cancelled, "no more");
    assert.deepEqual(await reader.read(), { value: undefined, done: true });
    reader.releaseLock();
    const broken = new ReadableStream({ pull: () => Promise.reject(new Error("broken")) });
    await assert.rejects(broken.getReader().read(), /broken/);
});

test("addresses_are_those_of_the_web", () => {
    const url = new URL("../c?d=e&f=%20#g", "https://user@host.test:8443/a/b/");
    assert.deepEqual([url.href, url.origin, url.host, url.searchParams.get("f")], ["https://user@host.test:8443/a/c?d=e&f=%20#g", "https://host.test:8443", "host.test:8443", " "]);
});
