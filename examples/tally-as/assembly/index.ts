import { rows } from "./csv";
import { tally } from "./tally";

/** The largest body of a message. */
const BODY_BYTES_MAX = 1024 * 1024;

/** The message's body: standard input to its end. */
function body(): string {
    const buffer = new ArrayBuffer(BODY_BYTES_MAX);
    let length = 0;
    for (let read = process.stdin.read(buffer); read > 0; read = process.stdin.read(buffer, length)) length += read;
    return String.UTF8.decode(buffer.slice(0, length));
}

const lines = tally(rows(body()));
for (let at = 0; at < lines.length; at++) console.log(lines[at]);
