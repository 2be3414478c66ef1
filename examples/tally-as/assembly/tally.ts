import { Row } from "./csv";
import { reject } from "./verdict";

/** What was sold of an article. */
class Sales {
    quantity: i64 = 0;
    cents: i64 = 0;
}

/** Adds up a table of sales: a line of JSON for each article, in the order in which they come. */
export function tally(table: Row[]): string[] {
    if (table.length == 0) reject("the table is empty");
    const header = table[0];
    const article = column(header, "article");
    const quantity = column(header, "quantity");
    const price = column(header, "price");
    const sold = new Map<string, Sales>();
    for (let at = 1; at < table.length; at++) {
        const row = table[at];
        if (row.fields.length != header.fields.length) {
            reject(`line ${row.line} has ${row.fields.length} fields, and the first line has ${header.fields.length}`);
        }
        const name = row.fields[article];
        if (!sold.has(name)) sold.set(name, new Sales());
        const sales = sold.get(name);
        const pieces = whole(row, row.fields[quantity], "quantity");
        sales.quantity += pieces;
        sales.cents += pieces * cents(row, row.fields[price]);
    }
    const lines: string[] = [];
    const names = sold.keys();
    for (let at = 0; at < names.length; at++) {
        const sales = sold.get(names[at]);
        lines.push(`{"article":${json(names[at])},"quantity":${sales.quantity},"cents":${sales.cents}}`);
    }
    return lines;
}

function column(header: Row, name: string): i32 {
    const at = header.fields.indexOf(name);
    if (at < 0) reject(`the first line names no column "${name}"`);
    return at;
}

/** An amount such as 3, 2.5 or 12.50, in hundredths. */
function cents(row: Row, text: string): i64 {
    const parts = text.split(".");
    if (parts.length > 2 || (parts.length == 2 && parts[1].length > 2)) return bad(row, text, "price");
    const fraction = parts.length == 2 ? parts[1].padEnd(2, "0") : "00";
    return whole(row, parts[0] + fraction, "price");
}

/** A number without a sign, of at most nine digits. */
function whole(row: Row, text: string, name: string): i64 {
    if (text.length == 0 || text.length > 9) return bad(row, text, name);
    for (let at = 0; at < text.length; at++) {
        const char = text.charCodeAt(at);
        if (char < 0x30 || char > 0x39) return bad(row, text, name);
    }
    return I64.parseInt(text);
}

function bad(row: Row, text: string, name: string): i64 {
    reject(`line ${row.line}: ${json(text)} is no ${name}`);
    return 0;
}

/** A text as JSON has it. */
function json(text: string): string {
    let quoted = '"';
    for (let at = 0; at < text.length; at++) {
        const char = text.charCodeAt(at);
        if (char == 0x22 || char == 0x5c) quoted += "\\" + text.charAt(at);
        else if (char < 0x20) quoted += "\\u" + char.toString(16).padStart(4, "0");
        else quoted += text.charAt(at);
    }
    return quoted + '"';
}
