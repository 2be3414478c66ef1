"""Tests of the handler, without a host: ``python -m unittest discover examples``."""

import unittest

from order import handle

from sandhog import http, keyvalue
from sandhog.testing import Response, message, run

URL = "https://api.example.com/invoices"
ORDER = {"id": 7, "email": "a@example.com", "items": [{"price": 2.5, "quantity": 2}, {"price": 1, "quantity": 3}]}


class OrderTest(unittest.TestCase):
    def bill(self, answer, order=ORDER, stored=()):
        settings = {"api": "https://api.example.com", "token": "secret"}
        return run(handle, message(json=order), http={f"POST {URL}": answer}, keyvalue=dict(stored), config=settings)

    def test_an_order_is_billed_counted_and_totalled(self):
        outcome = self.bill(201, stored={"handled": 2})
        self.assertEqual(outcome.verdict, "success")
        self.assertEqual(outcome.requests[0].json(), {"order": 7, "email": "a@example.com", "total": 8})
        self.assertEqual(outcome.requests[0].headers["authorization"], "Bearer secret")
        self.assertEqual(outcome.keyvalue, {"order 7": b"billed", "handled": b"3"})
        self.assertEqual([(sent.queue, sent.json()) for sent in outcome.sent], [("totals", {"id": 7, "total": 8})])

    def test_an_order_is_billed_once(self):
        outcome = self.bill(201, stored={"order 7": "billed"})
        self.assertEqual((outcome.verdict, outcome.requests, outcome.sent), ("success", [], []))

    def test_an_order_that_another_message_bills_meanwhile_is_counted_once(self):
        def answer(_):
            keyvalue.open().set("order 7", "billed")
            return 201

        settings = {"api": "https://api.example.com", "token": "secret"}
        outcome = run(handle, message(json=ORDER), http=answer, keyvalue={}, config=settings)
        self.assertEqual((outcome.verdict, outcome.sent, outcome.keyvalue), ("success", [], {"order 7": b"billed"}))

    def test_a_busy_api_says_when_to_come_back(self):
        outcome = self.bill(Response(429, headers={"Retry-After": "17"}))
        self.assertEqual((outcome.verdict, outcome.seconds, outcome.reason), ("retry-after", 17, "the API answers 429"))
        self.assertEqual(self.bill(503).seconds, 60)

    def test_what_the_api_refuses_is_rejected(self):
        outcome = self.bill(422)
        self.assertEqual((outcome.verdict, outcome.reason), ("reject", "the API answers 422"))

    def test_a_redirect_is_no_invoice(self):
        outcome = self.bill(Response(302, headers={"Location": URL}))
        self.assertEqual((outcome.verdict, len(outcome.requests)), ("reject", 1))

    def test_an_api_that_is_broken_or_late_is_tried_again(self):
        for answer in (500, http.Timeout("too long"), http.Unreachable("refused")):
            self.assertEqual(self.bill(answer).verdict, "retry")

    def test_what_is_no_order_is_rejected(self):
        outcome = self.bill(201, order={"id": 7})
        self.assertEqual((outcome.verdict, outcome.requests), ("reject", []))


if __name__ == "__main__":
    unittest.main()
