import { log, Reject, send, type Message } from "sandhog";

interface Order {
    id: number | string;
    items: { price: number; quantity: number }[];
}

/** Totals an order, and sends the total to the queue `totals`. */
export default function handle(message: Message): void {
    const order = orderOf(message.json()); // not JSON: a dead letter that says why
    const total = order.items.reduce((sum, { price, quantity }) => sum + price * quantity, 0);
    send("totals", { json: { id: order.id, total }, attributes: { items: order.items.length } });
    log.info(`order ${order.id}: ${order.items.length} items, ${total} in total`);
}

function orderOf(value: unknown): Order {
    const order = value as Partial<Order> | null;
    if (order?.id === undefined || !Array.isArray(order.items)) {
        throw new Reject("an order has an id and items");
    }
    if (!order.items.every((item) => typeof item?.price === "number" && typeof item.quantity === "number")) {
        throw new Reject(`order ${order.id} has an item without a price or a quantity`);
    }
    return order as Order;
}
