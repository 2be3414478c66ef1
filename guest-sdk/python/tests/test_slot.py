"""Sources that are put into a finished component."""

import random
import sys
import unittest
from pathlib import Path

from sandhog import _slot
from sandhog._crash import stack_of


class SlotTest(unittest.TestCase):
    def setUp(self):
        finders, modules = list(sys.meta_path), set(sys.modules)

        def restore():
            sys.meta_path[:] = finders
            for name in set(sys.modules) - modules:
                del sys.modules[name]

        self.addCleanup(restore)

    def test_what_is_put_into_a_slot_is_imported_from_it(self):
        sources = {
            "slot_app.py": "from slot_package import near\nvalue = near.VALUE",
            "slot_package/__init__.py": "",
            "slot_package/near.py": "VALUE = 'ä'",
        }
        slot = _slot.filled("slot_app", sources)
        self.assertEqual(len(slot), len(_slot.empty()))
        _slot.import_from(slot)
        self.assertEqual(sys.modules["slot_app"].value, "ä")

    def test_a_traceback_has_the_lines_of_what_was_imported(self):
        try:
            _slot.import_from(_slot.filled("slot_app", {"slot_app.py": "\n1 / 0\n"}))
        except ZeroDivisionError as error:
            lines = stack_of(error).splitlines()
        self.assertEqual(lines[0], "at <module> (slot_app.py:2): 1 / 0")

    def test_what_is_too_large_is_not_put_anywhere(self):
        text = "".join(map(chr, random.Random(0).choices(range(33, 1000), k=400_000)))
        self.assertIsNone(_slot.filled("app", {"app.py": text}))

    def test_nothing_in_the_package_looks_like_an_empty_slot(self):
        self.assertEqual(len(_slot.empty()), _slot.SLOT_BYTES)
        self.assertNotIn(_slot.empty()[:64], Path(_slot.__file__).read_bytes())


if __name__ == "__main__":
    unittest.main()
