import { reject } from "./verdict";

/** A record of a table, and the line on which it begins. */
export class Row {
    constructor(
        public line: i32,
        public fields: string[],
    ) {}
}

/** Reads a table in CSV (RFC 4180): a field in quotes may hold commas, line ends and doubled quotes. */
export function rows(text: string): Row[] {
    const table: Row[] = [];
    const end = text.length;
    let line = 1;
    let at = text.startsWith("\uFEFF") ? 1 : 0;
    while (at < end) {
        const row = new Row(line, []);
        let more = true;
        while (more) {
            const field = new Field(text, at, line);
            row.fields.push(field.value);
            line = field.line;
            at = field.end;
            more = at < end && text.charAt(at) == ",";
            if (more) at++;
        }
        if (text.startsWith("\r\n", at)) at += 2;
        else if (at < end) at++;
        line++;
        if (row.fields.length > 1 || row.fields[0] != "") table.push(row);
    }
    return table;
}

/** The field that begins at a place of a text, where it ends, and on which line. */
class Field {
    value: string = "";
    end: i32;
    line: i32;

    constructor(text: string, start: i32, line: i32) {
        this.line = line;
        this.end = start;
        if (text.charAt(start) == '"') {
            this.quoted(text, start + 1);
        } else {
            while (this.end < text.length && !isBorder(text.charCodeAt(this.end))) this.end++;
            this.value = text.substring(start, this.end);
        }
    }

    private quoted(text: string, start: i32): void {
        const opened = this.line;
        for (let at = start; at < text.length; at++) {
            const char = text.charAt(at);
            if (char == "\n") this.line++;
            if (char != '"') continue;
            if (text.charAt(at + 1) == '"') {
                at++;
                continue;
            }
            this.value = text.substring(start, at).replaceAll('""', '"');
            this.end = at + 1;
            const next = text.charCodeAt(this.end);
            if (this.end < text.length && !isBorder(next)) reject(`line ${this.line}: text after a closing quote`);
            return;
        }
        reject(`line ${opened}: a quote is never closed`);
    }
}

function isBorder(char: i32): bool {
    return char == 0x2c || char == 0x0a || char == 0x0d;
}
