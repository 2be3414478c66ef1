"""What is said of an exception that breaks a handler."""

import unittest

from sandhog._crash import reason_of, stack_of
from sandhog.testing import message, run


def inner():
    raise KeyError("y")


def outer():
    try:
        inner()
    except KeyError as error:
        raise ValueError("x") from error


def raised_by(call):
    try:
        call()
    except Exception as error:
        return error


class CrashTest(unittest.TestCase):
    def test_the_reason_is_the_type_the_text_and_the_causes(self):
        self.assertEqual(reason_of(raised_by(outer)), "ValueError: x; caused by KeyError: 'y'")
        self.assertEqual(run(lambda _: outer(), message()).reason, "ValueError: x; caused by KeyError: 'y'")

    def test_an_exception_without_a_text_is_its_type(self):
        self.assertEqual(reason_of(AssertionError()), "AssertionError")

    def test_an_exception_that_can_not_be_told_is_told_by_its_type(self):
        class Mute(Exception):
            def __str__(self):
                raise RuntimeError

        self.assertEqual(reason_of(Mute()), "Mute: (its text can't be had)")

    def test_causes_that_go_round_end(self):
        error = ValueError("x")
        error.__cause__ = KeyError("y")
        error.__cause__.__cause__ = error
        self.assertEqual(reason_of(error), "ValueError: x; caused by KeyError: 'y'")

    def test_the_stack_has_the_innermost_line_first_and_the_causes_below(self):
        lines = stack_of(raised_by(outer)).splitlines()
        self.assertRegex(lines[0], r'^at outer \(.*test_crash.py:\d+\): raise ValueError\("x"\) from error$')
        self.assertEqual(lines[2], "caused by KeyError: 'y'")
        self.assertRegex(lines[3], r"^at inner ")

    def test_a_function_that_calls_itself_is_told_once(self):
        def deep(n):
            return deep(n + 1)

        lines = stack_of(raised_by(lambda: deep(1))).splitlines()
        self.assertRegex(lines[0], r"^at deep .* \(\d+ times\)$")
        self.assertLess(len(lines), 5)

    def test_a_long_stack_has_its_ends(self):
        def one(n):
            other(n + 1)

        def other(n):
            one(n + 1)

        lines = stack_of(raised_by(lambda: one(1))).splitlines()
        self.assertEqual(len(lines), 41)
        self.assertRegex(lines[20], r"^\.\.\. \d+ more \.\.\.$")

    def test_the_stack_has_no_frames_of_this_package(self):
        lines = stack_of(run(lambda _: inner(), message()).error).splitlines()
        self.assertEqual([line.split()[1] for line in lines], ["inner", "<lambda>"])


if __name__ == "__main__":
    unittest.main()
