"""Key-value stores and settings, as the tests of a handler see them."""

import unittest

from sandhog import Retry, config, keyvalue
from sandhog.testing import Stores, message, run


class KeyValueTest(unittest.TestCase):
    def seen(self, call, stored):
        seen = []
        outcome = run(lambda _: seen.append(call(keyvalue.open())), message(), keyvalue=stored)
        self.assertEqual((outcome.verdict, outcome.reason), ("success", None))
        return seen[0], outcome.keyvalue

    def test_values_are_bytes_text_or_json(self):
        def call(store):
            store.set("bytes", b"\x00\xff")
            store.set("text", "ä")
            store.set_json("json", {"a": ["ä"]})
            return store.get("bytes"), store.get_text("text"), store.get_json("json"), store.get("none"), store.get_json("none")

        value, stored = self.seen(call, {})
        self.assertEqual(value, (b"\x00\xff", "ä", {"a": ["ä"]}, None, None))
        self.assertEqual(stored["json"], '{"a":["ä"]}'.encode())

    def test_what_is_prepared_is_there_and_what_is_deleted_is_not(self):
        def call(store):
            store.delete("a")
            store.delete("none")
            return store.exists("a"), store.exists("b"), list(store.keys()), list(store.keys("b"))

        value, stored = self.seen(call, {"a": "1", "b": {"x": 1}, "ba": b"", "c": 3})
        self.assertEqual(value, (False, True, ["b", "ba", "c"], ["b", "ba"]))
        self.assertEqual(stored, {"b": b'{"x":1}', "ba": b"", "c": b"3"})

    def test_a_counter_counts(self):
        def call(store):
            return [store.increment("n"), store.increment("n", 5), store.increment("m", -2)]

        value, stored = self.seen(call, {"n": 1})
        self.assertEqual((value, stored), ([2, 7, -2], {"n": b"7", "m": b"-2"}))

    def test_a_value_is_replaced_only_if_it_is_the_one_expected(self):
        def call(store):
            return [
                store.compare_and_set("a", "1", "2"),
                store.compare_and_set("a", "1", "3"),
                store.compare_and_set("b", None, "new"),
                store.compare_and_set("b", None, "newer"),
            ]

        value, stored = self.seen(call, {"a": "1"})
        self.assertEqual((value, stored), ([True, False, True, False], {"a": b"2", "b": b"new"}))

    def test_many_keys_go_in_one_call(self):
        def call(store):
            store.set_many({str(n): str(n) for n in range(2500)})
            store.delete_many(str(n) for n in range(2498))
            return store.get_many(["2498", "none", "2499"])

        value, stored = self.seen(call, {})
        self.assertEqual(value, {"2498": b"2498", "2499": b"2499"})
        self.assertEqual(stored, value)

    def test_stores_are_apart(self):
        def handle(_):
            keyvalue.open("orders").set("a", keyvalue.open("").get("a") or b"none")
            raise Retry("later")

        outcome = run(handle, message(), keyvalue=Stores(default={"a": "x"}, orders={}))
        self.assertEqual((outcome.verdict, outcome.stores), ("retry", {"default": {"a": b"x"}, "orders": {"a": b"x"}}))

    def test_what_a_host_refuses_is_refused_in_tests(self):
        for call, text in [
            (lambda store: store.get(""), "a key has 0 bytes, and may have 1 to 1024"),
            (lambda store: store.set("ä" * 513, ""), "1026 bytes"),
            (lambda store: store.set("a", b" " * 1_048_577), "1048577 bytes"),
            (lambda store: store.increment("text"), "no decimal number"),
            (lambda store: store.increment("n", 2**63), "out of range"),
        ]:
            outcome = run(lambda _: call(keyvalue.open()), message(), keyvalue={"text": "t"})
            self.assertEqual(outcome.verdict, "retry")
            self.assertIn(text, outcome.reason)

    def test_a_value_of_another_kind_is_not_guessed(self):
        outcome = run(lambda _: keyvalue.open().set("a", 1), message(), keyvalue={})
        self.assertEqual(outcome.reason, "TypeError: a value is bytes or text, and not int: set_json takes others")

    def test_a_store_that_is_not_prepared_is_not_granted(self):
        outcome = run(lambda _: keyvalue.open(), message())
        self.assertEqual(outcome.verdict, "retry")
        self.assertIn("add keyvalue = true to [grant]", outcome.reason)


class ConfigTest(unittest.TestCase):
    def test_settings_are_read_by_name(self):
        seen = []
        run(lambda _: seen.extend([config.get("a"), config.get("b"), config.all()]), message(), config={"a": "1"})
        self.assertEqual(seen, ["1", None, {"a": "1"}])

    def test_settings_that_are_not_prepared_are_not_granted(self):
        outcome = run(lambda _: config.get("a"), message())
        self.assertEqual(outcome.verdict, "retry")
        self.assertIn("add config = {} to [grant]", outcome.reason)


if __name__ == "__main__":
    unittest.main()
