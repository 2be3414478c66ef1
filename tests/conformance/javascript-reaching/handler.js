// Reaches out as the first word of the body says, so that one set of tests serves every language.

import { config, keyvalue, Retry, send } from "sandhog";

const store = keyvalue.open();

export default async function handle(message) {
    const [word, ...rest] = message.text().split(" ");
    const answer = await commands[word](...rest);
    if (answer !== undefined) {
        send("out", String(answer));
    }
}

const commands = {
    get: (url) => fetched(url),
    late: (url, milliseconds) => fetched(url, { signal: AbortSignal.timeout(Number(milliseconds)) }),
    post: (url, length) => fetched(url, { method: "POST", body: "x".repeat(Number(length)) }),
    async many(url, times) {
        let good = 0;
        for (let each = 0; each < Number(times); each += 1) {
            good += (await fetch(url)).ok ? 1 : 0;
        }
        return good;
    },
    async together(url, times) {
        const answers = await Promise.all(Array.from({ length: Number(times) }, () => fetch(url)));
        return answers.filter(({ ok }) => ok).length;
    },
    set(key, value) {
        store.set(key, value);
    },
    lose(key, value) {
        store.set(key, value);
        throw new Retry("lost");
    },
    read: (key) => store.getText(key) ?? "nothing",
    count: (key) => store.increment(key),
    swap: (key, expected, value) => store.compareAndSet(key, expected === "-" ? undefined : expected, value),
    keys: (prefix) => [...store.keys({ prefix })].join(" "),
    config: (name) => config.get(name) ?? "nothing",
    env: (name) => globalThis.process?.env?.[name] ?? "nothing",
    clock: () => Date.now(),
    random: () => `${Math.random()} ${crypto.getRandomValues(new Uint32Array(1))[0]}`,
    // There is no interface for files.
    file: () => "nothing",
    crash() {
        throw new TypeError("told to crash");
    },
};

async function fetched(url, init) {
    try {
        const response = await fetch(url, init);
        const text = await response.text();
        return `${response.status} ${text.length > 20 ? text.length : text}`;
    } catch (error) {
        return error.name === "TimeoutError" ? "timeout" : error.kind;
    }
}
