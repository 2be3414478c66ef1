{{without any}}
import { log, Reject, send } from "sandhog";
{{end}}
{{with any}}
import {
{{end}}
{{with config}}
    config,
{{end}}
{{with keyvalue}}
    keyvalue,
{{end}}
{{with any}}
    log,
    Reject,
{{end}}
{{with http}}
    Retry,
    RetryAfter,
{{end}}
{{with any}}
    send,
} from "sandhog";
{{end}}

{{with http without config}}
const API = "https://api.example.com"; // the manifest grants it

{{end}}
/**
{{without http}}
 * Totals an order, and sends the total to the queue `totals`.
{{end}}
{{with http}}
 * Totals an order, and sends the total to an API and to the queue `totals`.
{{end}}
 *
 * @param {import("sandhog").Message} message
 */
{{without http}}
export default function handle(message) {
{{end}}
{{with http}}
export default async function handle(message) {
{{end}}
    const order = message.json(); // not JSON: a dead letter that says why
    if (order?.id === undefined || !Array.isArray(order.items)) {
        throw new Reject("an order has an id and items");
    }
    if (!order.items.every((item) => typeof item?.price === "number" && typeof item.quantity === "number")) {
        throw new Reject(`order ${order.id} has an item without a price or a quantity`);
    }
{{with keyvalue}}
    // What is written is kept if the handler succeeds, and dropped if it fails.
    if (!keyvalue.open().compareAndSet(`order/${JSON.stringify(order.id)}`, undefined, "sent")) {
        log.info(`order ${order.id} was sent before`);
        return;
    }
{{end}}
    const total = order.items.reduce((sum, { price, quantity }) => sum + price * quantity, 0);
{{without http config}}
    send("totals", { json: { id: order.id, total }, attributes: { items: order.items.length } });
{{end}}
{{with config without http}}
    const json = { id: order.id, total, currency: config.get("currency") };
    send("totals", { json, attributes: { items: order.items.length } });
{{end}}
{{with http}}
    const json = { id: order.id, total };
    await post(json, message.id);
    send("totals", { json, attributes: { items: order.items.length } });
{{end}}
    log.info(`order ${order.id}: ${order.items.length} items, ${total} in total`);
}
{{with http}}

/**
 * Sends a total to the API. It can come twice, from an attempt that failed later: the key tells the API so.
 *
 * @param {object} total
 * @param {string} key
 */
async function post(total, key) {
{{end}}
{{with http without config}}
    const response = await fetch(`${API}/totals`, {
{{end}}
{{with http config}}
    const response = await fetch(`${config.get("api")}/totals`, {
{{end}}
{{with http}}
        method: "POST",
        redirect: "manual", // one that is followed makes a GET of it, whose success is none
{{end}}
{{with http without config}}
        headers: { "content-type": "application/json", "idempotency-key": key },
{{end}}
{{with http config}}
        headers: {
            authorization: `Bearer ${config.get("token")}`,
            "content-type": "application/json",
            "idempotency-key": key,
        },
{{end}}
{{with http}}
        body: JSON.stringify(total),
        signal: AbortSignal.timeout(5_000), // too late: tried again
    });
    const reason = `the API answers ${response.status}`;
    if (response.status === 429) {
        throw new RetryAfter(reason, Number(response.headers.get("retry-after")) || 30);
    }
    if (!response.ok) {
        throw new Retry(reason);
    }
}
{{end}}
