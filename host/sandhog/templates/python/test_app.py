"""Tests of the handler, without a host: ``python -m unittest``."""

import logging
import unittest
from decimal import Decimal
{{with any}}
from typing import Any
{{end}}

from app import handle
{{without http}}
from sandhog.testing import message, run
{{end}}
{{with http}}
from sandhog.testing import Response, message, run
{{end}}

{{with any}}
ORDER = message(json={"id": 7, "items": [{"price": 12.5, "quantity": 2}]})
# What the manifest grants.
GRANTED: dict[str, Any] = {
{{end}}
{{with http}}
    "http": {"POST https://api.example.com/totals": Response(201)},
{{end}}
{{with keyvalue}}
    "keyvalue": {},
{{end}}
{{with http config}}
    "config": {"api": "https://api.example.com", "token": "secret"},
{{end}}
{{with config without http}}
    "config": {"currency": "EUR"},
{{end}}
{{with any}}
}

{{end}}

class HandlerTest(unittest.TestCase):
    def test_an_order_is_totalled(self) -> None:
        items = [{"price": 12.5, "quantity": 2}, {"price": 3, "quantity": 1}]
{{without any}}
        outcome = run(handle, message(json={"id": 7, "items": items}))
{{end}}
{{with any}}
        outcome = run(handle, message(json={"id": 7, "items": items}), **GRANTED)
{{end}}
        self.assertEqual(outcome.verdict, "success")
        self.assertEqual([sent.queue for sent in outcome.sent], ["totals"])
{{without config}}
        self.assertEqual(outcome.sent[0].json(), {"id": 7, "total": 28})
{{end}}
{{with http config}}
        self.assertEqual(outcome.sent[0].json(), {"id": 7, "total": 28})
{{end}}
{{with config without http}}
        self.assertEqual(outcome.sent[0].json(), {"id": 7, "total": 28, "currency": "EUR"})
{{end}}
        self.assertEqual(outcome.sent[0].attributes, {"items": Decimal(2)})
        self.assertEqual(
            [(line.level, line.text) for line in outcome.logs], [(logging.INFO, "order 7: 2 items, 28.0 in total")]
        )

    def test_what_is_not_json_is_rejected(self) -> None:
        outcome = run(handle, message("seven spades"))
        self.assertEqual(outcome.verdict, "reject")
        self.assertIn("not JSON", outcome.reason or "")
        self.assertEqual(outcome.sent, [])

    def test_an_item_without_a_price_is_rejected(self) -> None:
        outcome = run(handle, message(json={"id": 7, "items": [{"quantity": 1}]}))
        self.assertEqual(outcome.verdict, "reject")
        self.assertIn("a price and a quantity", outcome.reason or "")
        self.assertEqual(outcome.sent, [])
{{with keyvalue}}

    def test_an_order_that_comes_twice_is_sent_once(self) -> None:
        first = run(handle, ORDER, **GRANTED)
        second = run(handle, ORDER, **{**GRANTED, "keyvalue": first.keyvalue})
        self.assertEqual((len(first.sent), second.verdict, second.sent), (1, "success", []))
{{end}}
{{with http}}

    def test_a_total_is_posted_to_the_api(self) -> None:
        (request,) = run(handle, ORDER, **GRANTED).requests
        self.assertEqual(request.headers["idempotency-key"], ORDER.id)
        self.assertEqual(request.json(), {"id": 7, "total": 25})

    def test_a_busy_api_is_asked_again_when_it_says(self) -> None:
        busy = Response(429, headers={"retry-after": "7"})
        outcome = run(handle, ORDER, **{**GRANTED, "http": lambda _request: busy})
        self.assertEqual((outcome.verdict, outcome.seconds, outcome.sent), ("retry-after", 7, []))
{{end}}
{{with http config}}

    def test_the_api_gets_the_token(self) -> None:
        (request,) = run(handle, ORDER, **GRANTED).requests
        self.assertEqual(request.headers["authorization"], "Bearer secret")
{{end}}
{{with config without http}}

    def test_the_currency_is_that_of_the_manifest(self) -> None:
        outcome = run(handle, ORDER, **{**GRANTED, "config": {"currency": "CHF"}})
        self.assertEqual(outcome.sent[0].json()["currency"], "CHF")
{{end}}


if __name__ == "__main__":
    unittest.main()
