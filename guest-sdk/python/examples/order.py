"""Bills an order over HTTP, once, and sends its total to the queue ``totals``."""

from decimal import Decimal
from typing import Any

import sandhog
from sandhog import Reject, Retry, RetryAfter, config, http, keyvalue


@sandhog.handler
def handle(message: sandhog.Message) -> None:
    """Bills one order."""
    order = message.json()
    try:
        prices = [Decimal(str(item["price"])) * item["quantity"] for item in order["items"]]
        invoice = {"order": order["id"], "email": order["email"], "total": float(sum(prices))}
    except (KeyError, TypeError, ArithmeticError) as error:
        raise Reject("an order has an id, an email, and items with a price and a quantity") from error
    store = keyvalue.open()
    if store.exists(f"order {order['id']}"):
        return
    create_invoice(invoice)
    # Another message may have billed the same order at the same time.
    if store.compare_and_set(f"order {order['id']}", None, "billed"):
        store.increment("handled")
        sandhog.send("totals", json={"id": order["id"], "total": invoice["total"]})


def create_invoice(invoice: dict[str, Any]) -> None:
    """Asks the API for an invoice."""
    url, headers = f"{config.get('api')}/invoices", {"authorization": f"Bearer {config.get('token')}"}
    try:
        # A redirect that is followed makes a GET of it, whose success is no invoice.
        response = http.request("POST", url, json=invoice, headers=headers, timeout=5, redirects=0)
    except http.Timeout as error:
        raise Retry("no invoice in time") from error
    if response.status in (429, 503):
        raise RetryAfter(f"the API answers {response.status}", response.retry_after(default=60))
    if not response.ok:
        raise (Reject if response.status < 500 else Retry)(f"the API answers {response.status}")
