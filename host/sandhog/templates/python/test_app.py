"""Tests of the handler, without a host: ``python -m unittest``."""

import logging
import unittest
from decimal import Decimal

from app import handle
from sandhog.testing import message, run


class HandlerTest(unittest.TestCase):
    def test_an_order_is_totalled(self) -> None:
        items = [{"price": 12.5, "quantity": 2}, {"price": 3, "quantity": 1}]
        outcome = run(handle, message(json={"id": 7, "items": items}))
        self.assertEqual(outcome.verdict, "success")
        self.assertEqual([sent.queue for sent in outcome.sent], ["totals"])
        self.assertEqual(outcome.sent[0].json(), {"id": 7, "total": 28})
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


if __name__ == "__main__":
    unittest.main()
