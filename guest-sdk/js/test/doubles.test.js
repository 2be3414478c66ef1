import assert from "node:assert/strict";
import test from "node:test";
import { ConfigError, FetchError, KeyValueError, Reject, Retry, config, keyvalue } from "sandhog";
import { message, run } from "sandhog/testing";

test("fetch_asks_the_test_and_the_test_sees_what_was_asked", async () => {
    const handle = async (received) => {
        const response = await fetch("https://api.test/invoices", {
            method: "POST",
            headers: { "content-type": "application/json" },
            body: JSON.stringify({ id: received.id }),
        });
        if (!response.ok) {
            throw new Reject(`${response.status} ${await response.text()} of ${response.url}`);
        }
    };
    const http = async (request) => Response.json({ asked: await request.json() }, { status: 201 });
    const { verdict, requests } = await run(handle, message({ id: "A7" }), { http });
    assert.equal(verdict, "success");
    const [{ method, url, headers, json }] = requests;
    assert.deepEqual([method, url, headers.get("content-type"), json()], ["POST", "https://api.test/invoices", "application/json", { id: "A7" }]);
    const table = { "POST https://api.test/invoices": new Response("full", { status: 409 }) };
    assert.equal((await run(handle, message(), { http: table })).reason, "409 full of https://api.test/invoices");
    assert.equal((await run(handle, message(), { http: { "https://api.test/invoices": () => new Response() } })).verdict, "success");
});

test("a_redirect_is_followed_as_the_host_follows_it", async () => {
    const handle = async () => {
        const headers = { authorization: "Bearer s3cret", "content-type": "text/plain", "x-mine": "1" };
        const response = await fetch("https://api.test/a", { method: "POST", body: "x", headers });
        return void assert.deepEqual([response.url, response.redirected, await response.text()], ["https://other.test/c", true, "end"]);
    };
    const to = (status, location) => new Response(null, { status, headers: { location } });
    const http = {
        "POST https://api.test/a": to(302, "/b"),
        "GET https://api.test/b": to(307, "https://other.test/c"),
        "GET https://other.test/c": new Response("end"),
    };
    const { reason, requests } = await run(handle, message(), { http });
    assert.equal(reason, undefined);
    assert.deepEqual(
        requests.map(({ method, url, headers, text }) => [method, url, text(), headers.get("authorization"), headers.get("content-type"), headers.get("x-mine")]),
        [
            ["POST", "https://api.test/a", "x", "Bearer s3cret", "text/plain", "1"],
            ["GET", "https://api.test/b", "", "Bearer s3cret", null, "1"],
            ["GET", "https://other.test/c", "", null, null, "1"],
        ],
    );
});

test("a_redirect_that_keeps_its_method_sends_its_body_again_unless_it_was_a_stream", async () => {
    const put = (body) => async () => void (await fetch("https://api.test/a", { method: "PUT", body }));
    const http = ({ url }) => (url.endsWith("/a") ? new Response(null, { status: 308, headers: { location: "b" } }) : new Response());
    const { verdict, requests } = await run(put("x"), message(), { http });
    assert.deepEqual([verdict, ...requests.map(({ method, text }) => method + text())], ["success", "PUTx", "PUTx"]);
    const streamed = await run(put(new Blob(["x"]).stream()), message(), { http });
    assert.match(streamed.reason, /can't be sent twice/);
});

test("a_redirect_is_an_answer_or_an_error_if_that_is_asked_for", async () => {
    const asks = (redirect) => async () => {
        const { status, headers, redirected } = await fetch("https://api.test/a", { redirect });
        assert.deepEqual([status, headers.get("location"), redirected], [301, "/again", false]);
    };
    const http = () => new Response(null, { status: 301, headers: { location: "/again" } });
    const asked = async (redirect) => {
        const { reason, requests } = await run(asks(redirect), message(), { http });
        return [reason, requests.length];
    };
    assert.deepEqual(await asked("manual"), [undefined, 1]);
    const [refused, once] = await asked("error");
    assert.match(refused, /redirects are errors/);
    assert.equal(once, 1);
    const [endless, times] = await asked("follow");
    assert.match(endless, /more than 20 times/);
    assert.equal(times, 21);
});

test("a_body_of_pieces_arrives_as_a_whole", async () => {
    const pieces = async function* () {
        yield new TextEncoder().encode("one ");
        yield new TextEncoder().encode("two");
    };
    const handle = () => fetch("https://api.test", { method: "PUT", body: pieces() });
    const { requests } = await run(async () => void (await handle()), message(), { http: () => new Response() });
    assert.equal(requests[0].text(), "one two");
});

test("a_request_for_which_nothing_is_prepared_is_not_granted", async () => {
    const asks = async () => void (await fetch("https://api.test/x?secret=1"));
    for (const options of [{}, { http: { "https://api.test/y": new Response() } }]) {
        const { verdict, reason } = await run(asks, message(), options);
        assert.deepEqual(
            [verdict, reason],
            ["retry", 'GET https://api.test/x: the manifest does not grant https://api.test: add "https://api.test" to http in [grant]'],
        );
    }
});

test("an_error_of_a_server_that_nobody_catches_is_tried_again", async () => {
    const asks = async () => void (await fetch("https://api.test"));
    const refused = new FetchError("connection", "GET https://api.test/: it refuses connections");
    const { verdict, reason, error } = await run(asks, message(), { http: { "https://api.test/": refused } });
    assert.deepEqual([verdict, reason, error.kind], ["retry", "GET https://api.test/: it refuses connections", "connection"]);
    assert.ok(error instanceof TypeError);
});

test("limits_of_requests_and_of_bodies_are_tried_again", async () => {
    const asks = async () => void (await fetch("https://api.test"));
    const { verdict, reason } = await run(asks, message(), { http: () => new FetchError("limit", "too many") });
    assert.deepEqual([verdict, reason], ["retry", "too many"]);
});

test("a_server_that_never_answers_is_a_timeout", async () => {
    const asks = async () => void (await fetch("https://api.test", { signal: AbortSignal.timeout(1) }));
    const { verdict, reason } = await run(asks, message(), { http: () => new Promise(() => {}) });
    assert.deepEqual([verdict, reason], ["retry", "The operation was aborted due to timeout"]);
});

test("outside_of_a_run_fetch_is_that_of_node", async () => {
    const response = await fetch("data:text/plain,hello");
    assert.equal(await response.text(), "hello");
});

test("a_store_is_read_and_written", async () => {
    const handle = () => {
        const store = keyvalue.open();
        assert.deepEqual([store.getText("name"), store.getJson("order"), store.get("none")], ["Ada", { id: 7 }, undefined]);
        store.set("bytes", new Uint8Array([0, 255]));
        store.setJson("json", [1]);
        store.setMany({ many1: "1", many2: new Uint8Array([2]) });
        store.delete("name");
        assert.equal(store.exists("name"), false);
        assert.deepEqual([...store.keys()], ["bytes", "json", "many1", "many2", "order"]);
        assert.deepEqual([...store.keys({ prefix: "many" })], ["many1", "many2"]);
        assert.deepEqual([...store.getMany(["many1", "none", "bytes"])].map(([key, value]) => [key, [...value]]), [["many1", [49]], ["bytes", [0, 255]]]);
        store.deleteMany(["many1", "many2"]);
        keyvalue.open("other").set("k", "v");
    };
    const { verdict, reason, keyvalue: left, store } = await run(handle, message(), { keyvalue: { name: "Ada", order: { id: 7 } } });
    assert.deepEqual([verdict, reason], ["success", undefined]);
    assert.deepEqual([...left.keys()], ["bytes", "json", "order"]);
    assert.equal(store("other").getText("k"), "v");
});

test("a_counter_adds_up_and_a_comparison_decides", async () => {
    const handle = () => {
        const store = keyvalue.open("counts");
        assert.deepEqual([store.increment("n"), store.increment("n", 4), store.increment("n", -2)], [1, 5, 3]);
        assert.equal(store.compareAndSet("lock", undefined, "mine"), true);
        assert.equal(store.compareAndSet("lock", undefined, "yours"), false);
        assert.equal(store.compareAndSet("lock", "yours", "yours"), false);
        assert.equal(store.compareAndSet("lock", "mine", "yours"), true);
        assert.throws(() => store.increment("lock"), KeyValueError);
        assert.throws(() => store.increment("n", 0.5), /0.5 is no whole number/);
    };
    const { reason, store } = await run(handle, message(), { stores: { counts: {} } });
    assert.equal(reason, undefined);
    assert.deepEqual([store("counts").getText("n"), store("counts").getText("lock")], ["3", "yours"]);
});

test("what_one_run_wrote_is_what_the_next_begins_with", async () => {
    const seen = keyvalue.open();
    const handle = ({ id }) => {
        if (seen.exists(id)) {
            throw new Reject("again");
        }
        seen.set(id, "");
    };
    const first = await run(handle, message({ id: "1" }), { keyvalue: {} });
    const second = await run(handle, message({ id: "1" }), { keyvalue: first.keyvalue });
    assert.deepEqual([first.verdict, second.verdict], ["success", "reject"]);
});

test("what_a_host_refuses_is_refused_in_tests", async () => {
    const fails = async (use) => (await run(() => use(keyvalue.open()), message(), { keyvalue: { text: new Uint8Array([0xff]), json: "{" } })).reason;
    assert.match(await fails((store) => store.set("", "x")), /a key of 0 bytes/);
    assert.match(await fails((store) => store.set("k".repeat(1025), "x")), /a key of 1025 bytes/);
    assert.match(await fails((store) => store.set("k", new Uint8Array(1_048_577))), /a value of 1048577 bytes/);
    assert.match(await fails((store) => store.getMany(Array(1001).fill("k"))), /1001 keys/);
    assert.match(await fails((store) => store.getText("text")), /"text" is not text/);
    assert.match(await fails((store) => store.getJson("json")), /"json" is not JSON/);
});

test("configuration_is_that_of_the_test", async () => {
    const handle = () => {
        assert.deepEqual([config.get("api"), config.get("none"), [...config.all()]], ["https://api.test", undefined, [["api", "https://api.test"]]]);
    };
    assert.equal((await run(handle, message(), { config: { api: "https://api.test" } })).verdict, "success");
});

test("a_grant_that_is_missing_is_named", async () => {
    const stored = await run(() => void keyvalue.open().get("k"), message());
    assert.deepEqual([stored.verdict, stored.error instanceof KeyValueError], ["retry", true]);
    assert.match(stored.reason, /add keyvalue = true to \[grant\]/);
    const configured = await run(() => void config.get("k"), message());
    assert.deepEqual([configured.verdict, configured.error instanceof ConfigError], ["retry", true]);
    assert.match(configured.reason, /add config = \{ NAME = "VALUE" \} to \[grant\]/);
});

test("the_reason_of_a_crash_is_the_error_with_its_causes", async () => {
    const broken = () => {
        try {
            null.f();
        } catch (cause) {
            throw new RangeError("no total", { cause });
        }
    };
    const { verdict, reason } = await run(broken, message());
    assert.equal(verdict, "crash");
    assert.match(reason, /^RangeError: no total; caused by TypeError: Cannot read properties of null/);
    const circle = new Error("round");
    circle.cause = circle;
    assert.equal((await run(() => { throw circle; }, message())).reason.split("; caused by ").length, 10);
    assert.equal((await run(() => { throw "text"; }, message())).reason, "text");
    assert.equal((await run(() => { throw Object.create(null); }, message())).reason, "an error that has no text");
});

test("a_failure_of_the_handlers_choice_stays_what_it_is", async () => {
    const asks = async () => {
        await fetch("https://api.test").catch((cause) => {
            throw new Retry("no answer", { cause });
        });
    };
    const { verdict, reason } = await run(asks, message());
    assert.equal(verdict, "retry");
    assert.match(reason, /^no answer: GET https:\/\/api.test\/: the manifest does not grant/);
});
