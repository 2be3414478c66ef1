import { log, Reject, send } from "sandhog";

/**
 * Totals an order, and sends the total to the queue `totals`.
 *
 * @param {import("sandhog").Message} message
 */
export default function handle(message) {
    const order = message.json(); // not JSON: a dead letter that says why
    if (order?.id === undefined || !Array.isArray(order.items)) {
        throw new Reject("an order has an id and items");
    }
    if (!order.items.every((item) => typeof item?.price === "number" && typeof item.quantity === "number")) {
        throw new Reject(`order ${order.id} has an item without a price or a quantity`);
    }
    const total = order.items.reduce((sum, { price, quantity }) => sum + price * quantity, 0);
    send("totals", { json: { id: order.id, total }, attributes: { items: order.items.length } });
    log.info(`order ${order.id}: ${order.items.length} items, ${total} in total`);
}
