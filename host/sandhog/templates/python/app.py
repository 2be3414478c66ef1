"""Totals orders, and sends the totals to the queue ``totals``."""

from decimal import Decimal
from typing import Any

import sandhog


@sandhog.handler
def handle(message: sandhog.Message) -> None:
    """Totals one order."""
    order = message.json()  # not JSON: a dead letter that says where
    try:
        items = order["items"]
        total = sum((price_of(item) * item["quantity"] for item in items), Decimal(0))
        sandhog.send("totals", json={"id": order["id"], "total": float(total)}, attributes={"items": len(items)})
    except (KeyError, TypeError, ArithmeticError) as error:
        raise sandhog.Reject("an order has an id, and items with a price and a quantity") from error
    sandhog.log.info("order %s: %d items, %s in total", order["id"], len(items), total)


def price_of(item: dict[str, Any]) -> Decimal:
    """Returns a price with the digits that it was written with."""
    return Decimal(str(item["price"]))
