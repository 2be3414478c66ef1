// Does what the first word of the body says, so that one set of tests serves every language.

import { decimal, log, Reject, Retry, RetryAfter, send, SendError, sendMany } from "sandhog";

export default async function handle(message) {
    const [word, ...rest] = textOf(message).split(" ");
    const command = Object.hasOwn(commands, word) ? commands[word] : measure;
    await command(message, rest);
}

const commands = {
    ok() {},
    retry(_, why) {
        throw new Retry(why.join(" "));
    },
    "retry-after"(_, [seconds, ...why]) {
        throw new RetryAfter(why.join(" "), Number(seconds));
    },
    reject(_, why) {
        throw new Reject(why.join(" "));
    },
    crash() {
        throw new Error("told to crash");
    },
    wait(_, [milliseconds]) {
        return new Promise((resolve) => setTimeout(resolve, Number(milliseconds)));
    },
    log(_, text) {
        log.info(text.join(" "));
    },
    echo({ body, attributes, groupId }) {
        send("out", { body, attributes, groupId });
    },
    "send-all"() {
        const attributes = { t: "täxt", n: decimal("-12.50"), b: new Uint8Array([0x00, 0xff]) };
        sendMany("out", [
            { body: "one", attributes },
            { body: "two", delaySeconds: 1, priority: 9 },
            { body: "three", groupId: "g", deduplicationId: "d" },
        ]);
    },
    facts({ id, queue, receiveCount, groupId, body }) {
        const facts = { id, queue, "receive-count": receiveCount, group: groupId ?? null, length: body.length };
        send("out", { json: facts });
    },
    denied(message) {
        try {
            send("elsewhere", message.body);
        } catch (error) {
            throw new Reject(error instanceof SendError ? error.kind : String(error));
        }
    },
};

function measure({ body }) {
    send("out", String(body.length));
}

function textOf(message) {
    try {
        return message.text();
    } catch {
        return "";
    }
}
