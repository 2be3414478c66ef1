{{without http}}
"""Totals orders, and sends the totals to the queue ``totals``."""
{{end}}
{{with http}}
"""Totals orders, and sends the totals to an API and to the queue ``totals``."""
{{end}}

from decimal import Decimal
from typing import Any

import sandhog
{{with any}}
from sandhog import (
{{end}}
{{with config}}
    config,
{{end}}
{{with http}}
    http,
{{end}}
{{with keyvalue}}
    keyvalue,
{{end}}
{{with any}}
)
{{end}}
{{with http without config}}

API = "https://api.example.com"  # the manifest grants it
{{end}}


@sandhog.handler
def handle(message: sandhog.Message) -> None:
    """Totals one order."""
    order = message.json()  # not JSON: a dead letter that says where
    try:
        items = order["items"]
        total = sum((price_of(item) * item["quantity"] for item in items), Decimal(0))
{{without any}}
        sandhog.send("totals", json={"id": order["id"], "total": float(total)}, attributes={"items": len(items)})
{{end}}
{{with any}}
        body = {"id": order["id"], "total": float(total)}
{{end}}
    except (KeyError, TypeError, ArithmeticError) as error:
        raise sandhog.Reject("an order has an id, and items with a price and a quantity") from error
{{with keyvalue}}
    # What is written is kept if the handler succeeds, and dropped if it fails.
    if not keyvalue.open().compare_and_set(f"order/{order['id']!r}", None, "sent"):
        sandhog.log.info("order %s was sent before", order["id"])
        return
{{end}}
{{with config without http}}
    body["currency"] = config.get("currency")
{{end}}
{{with http}}
    post(body, message.id)
{{end}}
{{with any}}
    sandhog.send("totals", json=body, attributes={"items": len(items)})
{{end}}
    sandhog.log.info("order %s: %d items, %s in total", order["id"], len(items), total)


{{with http}}
def post(total: dict[str, Any], key: str) -> None:
    """Sends a total to the API. It can come twice, from an attempt that failed later: the key tells the API so."""
{{end}}
{{with http config}}
    headers = {"authorization": f"Bearer {config.get('token')}", "idempotency-key": key}
    url = f"{config.get('api')}/totals"
{{end}}
{{with http without config}}
    headers = {"idempotency-key": key}
    url = f"{API}/totals"
{{end}}
{{with http}}
    # A redirect that is followed makes a GET of it, whose success is none.
    response = http.request("POST", url, json=total, headers=headers, timeout=5, redirects=0)
    reason = f"the API answers {response.status}"
    if response.status == 429:
        raise sandhog.RetryAfter(reason, response.retry_after(default=30))
    if not response.ok:
        raise sandhog.Retry(reason)


{{end}}
def price_of(item: dict[str, Any]) -> Decimal:
    """Returns a price with the digits that it was written with."""
    return Decimal(str(item["price"]))
