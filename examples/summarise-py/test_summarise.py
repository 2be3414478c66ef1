"""Tests of the example, without a host: ``python -m unittest``."""

import unittest
from pathlib import Path
from typing import Any

from sandhog.testing import Outcome, message, run
from summarise import handle

INPUT = Path(__file__).parent / "input"


class SummariseTest(unittest.TestCase):
    def summary(self, outcome: Outcome) -> Any:
        self.assertEqual((outcome.verdict, outcome.reason), ("success", None))
        (sent,) = outcome.sent
        self.assertEqual(sent.queue, "summaries")
        return sent.json()

    def test_a_column_of_numbers_has_its_least_greatest_and_mean(self) -> None:
        summary = self.summary(run(handle, message((INPUT / "stations.csv").read_bytes())))
        self.assertEqual(summary["rows"], 4)
        self.assertEqual(
            summary["columns"]["celsius"], {"count": 3, "empty": 1, "min": -3.5, "max": 11.25, "mean": 4.25}
        )
        self.assertEqual(
            summary["columns"]["station"], {"count": 4, "empty": 0, "distinct": 3, "min": "Bodø", "max": "Tromsø"}
        )

    def test_digits_are_not_lost_on_the_way_to_the_mean(self) -> None:
        summary = self.summary(run(handle, message("price\n0.1\n0.2\n0.3\n")))
        self.assertEqual(summary["columns"]["price"]["mean"], 0.2)

    def test_another_separator_is_recognised(self) -> None:
        summary = self.summary(run(handle, message("a;b\n1;2\n3;4\n")))
        self.assertEqual(list(summary["columns"]), ["a", "b"])

    def test_a_line_that_is_too_short_is_rejected_with_its_number(self) -> None:
        outcome = run(handle, message((INPUT / "ragged.csv").read_bytes()))
        self.assertEqual(
            (outcome.verdict, outcome.reason), ("reject", "line 3 has 2 fields, and the first line has 3")
        )

    def test_nothing_is_rejected(self) -> None:
        self.assertEqual(run(handle, message()).verdict, "reject")
        self.assertEqual(run(handle, message(b"\xff")).verdict, "reject")


if __name__ == "__main__":
    unittest.main()
