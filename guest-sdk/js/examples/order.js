import { Reject, Retry, RetryAfter, config, keyvalue, log, send } from "sandhog";

const ANSWER_MILLISECONDS_MAX = 5_000;
const RETRY_SECONDS = 30;
const orders = keyvalue.open();

/** Has an invoice made for each order, once, and sends the order's total on. */
export default async function handle(message) {
    const { id, email, items } = message.json(); // not JSON: a dead letter that says why
    if (!id || !Array.isArray(items)) {
        throw new Reject("an order has an id and items");
    }
    if (orders.exists(`order/${id}`)) {
        log.info(`order ${id} has an invoice already`);
        return;
    }
    const total = items.reduce((sum, { price, quantity }) => sum + price * quantity, 0);
    const response = await fetch(`${config.get("api")}/invoices`, {
        method: "POST",
        headers: { authorization: `Bearer ${config.get("token")}`, "content-type": "application/json" },
        body: JSON.stringify({ order: id, email, total }),
        redirect: "manual", // one that is followed makes a GET of it, whose success is no invoice
        signal: AbortSignal.timeout(ANSWER_MILLISECONDS_MAX), // too late: tried again
    });
    if (response.status === 429 || response.status === 503) {
        throw new RetryAfter(`the API answers ${response.status}`, Number(response.headers.get("retry-after")) || RETRY_SECONDS);
    }
    if (!response.ok) {
        const Why = response.status < 500 ? Reject : Retry;
        throw new Why(`the API answers ${response.status}: ${(await response.text()).slice(0, 200)}`);
    }
    // What follows happens together with the deletion of the message, or not at all.
    orders.setJson(`order/${id}`, { total });
    orders.increment("handled");
    send("totals", { json: { id, total } });
}
