"""What a handler can say and do, as the tests of a handler see it."""

import logging
import unittest
from datetime import timedelta
from decimal import Decimal

import sandhog
from sandhog import Outgoing, Reject, Retry, RetryAfter, send, send_many
from sandhog.testing import message, run, run_batch


def raising(error):
    def handle(_):
        raise error

    return handle


class HandlerTest(unittest.TestCase):
    def test_a_message_has_every_field_with_a_default(self):
        received = message()
        self.assertEqual((received.id, received.body, received.attributes), ("test-message", b"", {}))
        self.assertEqual((received.queue, received.receive_count, received.group_id), ("test", 1, None))
        self.assertEqual(received.sent_at.isoformat(), "2026-01-01T00:00:00+00:00")

    def test_malformed_json_is_rejected_with_its_place(self):
        outcome = run(lambda received: received.json(), message('{\n "a": }'))
        self.assertEqual(outcome.verdict, "reject")
        self.assertEqual(outcome.reason, "the body is not JSON: Expecting value: line 2 column 7 (char 8)")

    def test_json_that_is_nested_too_deeply_is_rejected(self):
        self.assertEqual(run(lambda received: received.json(), message("[" * 200_000)).verdict, "reject")

    def test_bytes_that_are_not_text_are_rejected_with_their_place(self):
        outcome = run(lambda received: received.text(), message(b"a\xff"))
        self.assertEqual((outcome.verdict, outcome.reason), ("reject", "the body is not text: invalid UTF-8 at byte 1"))

    def test_each_failure_has_its_verdict(self):
        for error, expected in [
            (Retry("busy"), ("retry", "busy", None)),
            (RetryAfter("later", 1.5), ("retry-after", "later", 2)),
            (RetryAfter("later", timedelta(days=1)), ("retry-after", "later", 43_200)),
            (Reject("no"), ("reject", "no", None)),
            (RuntimeError("oops"), ("crash", "RuntimeError: oops", None)),
        ]:
            outcome = run(raising(error), message())
            self.assertEqual((outcome.verdict, outcome.reason, outcome.seconds), expected)

    def test_the_cause_of_a_failure_is_part_of_its_reason(self):
        def handle(_):
            try:
                int("seven")
            except ValueError as error:
                raise Reject("not a number") from error

        self.assertEqual(
            run(handle, message()).reason, "not a number: invalid literal for int() with base 10: 'seven'"
        )

    def test_a_failure_that_is_returned_does_not_pass_as_success(self):
        self.assertEqual(run(lambda _: Reject("no"), message()).verdict, "reject")

    def test_every_option_of_a_send_is_kept(self):
        def handle(_):
            attributes = {"text": "täxt", "number": 7, "digits": Decimal("-12.50"), "bytes": b"\x00\xff"}
            send("out", json={"a": "ä"}, attributes=attributes, delay=0.5, group_id="g", deduplication_id="d", priority=9)
            send_many("other", ["one", b"\x02", Outgoing("three", delay=timedelta(minutes=1))])

        first, second, third, fourth = run(handle, message()).sent
        self.assertEqual(first.text(), '{"a":"ä"}')
        self.assertEqual(
            first.attributes, {"text": "täxt", "number": Decimal(7), "digits": Decimal("-12.50"), "bytes": b"\x00\xff"}
        )
        self.assertEqual((first.delay_seconds, first.group_id, first.deduplication_id, first.priority), (1, "g", "d", 9))
        self.assertEqual((second.queue, second.body, third.body), ("other", b"one", b"\x02"))
        self.assertEqual(fourth.delay_seconds, 60)

    def test_a_message_that_a_host_refuses_is_refused_in_tests(self):
        for options, expected in [
            ({"body": b" " * 1_048_577}, "1048577 bytes"),
            ({"attributes": {"": "x"}}, "1 to 256 characters"),
            ({"attributes": {str(n): n for n in range(11)}}, "11 attributes"),
            ({"delay": 43_201}, "12 hours"),
            ({"delay": -1}, "a delay of -1 seconds"),
            ({"priority": 10}, "priority 10"),
            ({"json": float("nan")}, "no JSON form"),
            ({"body": "\ud800"}, "no UTF-8 form"),
        ]:
            outcome = run(lambda _: send("out", **options), message())
            self.assertEqual(outcome.verdict, "reject")
            self.assertIn(expected, outcome.reason)

    def test_one_message_that_is_not_valid_keeps_back_all(self):
        outcome = run(lambda _: send_many("out", ["1", Outgoing(b" " * 1_048_577)]), message())
        self.assertEqual((outcome.verdict, outcome.sent), ("reject", []))

    def test_a_number_whose_digits_are_not_meant_is_no_attribute(self):
        outcome = run(lambda _: send("out", attributes={"price": 0.1 + 0.2}), message())
        self.assertEqual(outcome.verdict, "crash")
        self.assertIn("Decimal('0.30000000000000004')", outcome.reason)

    def test_a_missing_grant_is_retried_because_an_operator_can_add_it(self):
        outcome = run(lambda _: send("out", ""), message(), refuse_sends=sandhog.NotGranted("queue out"))
        self.assertEqual((outcome.verdict, outcome.reason), ("retry", "sending is not granted: queue out"))

    def test_lines_of_any_logger_are_recorded(self):
        def handle(_):
            sandhog.log.log(sandhog.TRACE, "fine")
            logging.getLogger("app").debug("%s", "close")

        logs = [(line.level, line.text) for line in run(handle, message()).logs]
        self.assertEqual(logs, [(5, "fine"), (logging.DEBUG, "close")])

    def test_a_send_without_a_host_says_how_to_have_one(self):
        with self.assertRaisesRegex(RuntimeError, "sandhog.testing.run"):
            send("out", "")

    def test_a_batch_has_one_result_per_message(self):
        def verdicts(function):
            return [result.verdict for result in run_batch(function, [message("good"), message("bad")]).results]

        def each(messages):
            return [Reject("bad") if received.text() == "bad" else None for received in messages]

        self.assertEqual(verdicts(each), ["success", "reject"])
        self.assertEqual(verdicts(lambda _: []), ["crash", "crash"])
        self.assertEqual(verdicts(lambda _: [1, None]), ["crash", "crash"])
        self.assertEqual(verdicts(raising(Retry("all"))), ["retry", "retry"])

    def test_an_asynchronous_function_is_no_handler(self):
        async def handle(_):
            pass

        with self.assertRaisesRegex(TypeError, "a plain function"):
            sandhog.handler(handle)


if __name__ == "__main__":
    unittest.main()
