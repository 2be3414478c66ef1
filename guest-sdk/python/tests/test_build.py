"""What the build reads from sources, packages and manifests, before it makes a component."""

import sys
import tempfile
import textwrap
import unittest
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from sandhog._build import BuildError, _check
from sandhog._manifest import lines_for, remarks_on
from sandhog._packages import PackageError, Packages, names_in, packages_of
from sandhog._program import program_of


class InFolder(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def write(self, name, text=""):
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return file


class ProgramTest(InFolder):
    def program(self, source, packages=()):
        app = self.write("app.py", source)
        return program_of(app, [self.folder / "env" / name for name in packages])

    def test_what_a_handler_uses_of_the_host_is_seen(self):
        for source, expected in [
            ("import sandhog\nsandhog.handler", set()),
            ("from sandhog import Message, Reject, handler", set()),
            ("import sandhog as s\ns.send('a')", {"send"}),
            ("from sandhog import send_many", {"send"}),
            ("from sandhog import *", {"send"}),
            ("from sandhog import http, config", {"http", "config"}),
            ("import sandhog.http", {"http"}),
            ("from sandhog.keyvalue import open", {"keyvalue"}),
            ("import sandhog\ndef f(m): return sandhog.keyvalue.open()", {"keyvalue"}),
            ("import urllib.request", {"http"}),
            ("import urllib.parse, http", set()),
            ("from http import client", {"http"}),
            ("def f():\n  from urllib.request import urlopen", {"http"}),
            ("import xml.sax.saxutils", set()),
            ("send = config = 'http'  # sandhog.send", set()),
        ]:
            with self.subTest(source):
                self.assertEqual(self.program(source).uses, expected)

    def test_modules_beside_it_and_packages_count_if_they_are_imported(self):
        self.write("near.py", "from sandhog import keyvalue")
        self.write("far.py", "import http.client")
        self.write("env/pack/__init__.py", "from . import used")
        self.write("env/pack/used.py", "from .deep.er import x")
        self.write("env/pack/deep/er.py", "import urllib.request")
        self.write("env/pack/unused.py", "import sandhog\nsandhog.send")
        program = self.program("import near\nimport pack", ["pack"])
        self.assertEqual(program.uses, {"keyvalue", "http"})
        self.assertEqual(set(program.modules), {"app", "near", "pack", "pack.used", "pack.deep.er"})

    def test_what_is_only_imported_for_types_does_not_count(self):
        program = self.program(
            """
            from typing import TYPE_CHECKING
            if TYPE_CHECKING:
                import urllib.request
            else:
                import json.tool
            """
        )
        self.assertEqual(program.uses, set())

    def test_imports_in_functions_are_late(self):
        self.assertEqual(self.program("import json\ndef f():\n  import netrc, a.b").late, {"netrc", "a", "a.b"})

    def test_queues_that_are_named_are_seen(self):
        program = self.program("import sandhog\nsandhog.send('a', b'')\nsandhog.send_many('b', [])\nsandhog.send(x)")
        self.assertEqual(program.queues, {"a", "b"})

    def test_a_package_that_is_not_taken_along_is_named(self):
        with self.assertRaisesRegex(BuildError, "app.py imports packaging, .*: add --package packaging"):
            _check(self.folder / "app.py", self.program("import packaging.version"), Packages())

    def test_what_an_installed_package_imports_in_vain_is_not_asked_for(self):
        installed = ".venv/lib/site-packages"
        self.write(f"{installed}/core/__init__.py", "import packaging\nfrom ._core import x")
        self.write(f"{installed}/core/_core{EXTENSION_SUFFIXES[0]}")
        program = program_of(self.write("app.py", "import core"), [self.folder / installed / "core"])
        with self.assertRaisesRegex(BuildError, "^core is native code: a component can't load it"):
            _check(self.folder / "app.py", program, Packages())

    def test_native_code_that_can_not_be_done_without_is_named(self):
        self.write("env/core/__init__.py", "from ._core import x")
        self.write(f"env/core/_core{EXTENSION_SUFFIXES[0]}")
        for source, needed_by, text in [
            ("import core", {}, "^core is native code: a component can't load it"),
            ("import core", {"core": "outer"}, "outer needs core, which is native code: a component can't load it"),
        ]:
            program = self.program(source, ["core"])
            with self.assertRaisesRegex(BuildError, text):
                _check(self.folder / "app.py", program, Packages(needed_by=needed_by))

    def test_native_code_whose_lack_is_only_told_better_is_named(self):
        self.write("env/core/__init__.py", "try:\n  from . import _core\nexcept ImportError as error:\n  raise ImportError('!')")
        self.write(f"env/core/_core{EXTENSION_SUFFIXES[0]}")
        self.assertEqual(self.program("import core", ["core"]).native, {"core._core": "core"})

    def test_native_code_that_is_only_quicker_is_left_out(self):
        self.write("env/quick/__init__.py", "try:\n  from . import fast\nexcept ImportError:\n  from . import slow")
        self.write("env/quick/fast.py", "from ._fast import x")
        self.write(f"env/quick/_fast{EXTENSION_SUFFIXES[0]}")
        self.write("env/quick/slow.py")
        self.assertEqual(self.program("import quick", ["quick"]).native, {})


class PackagesTest(InFolder):
    def test_requirements_name_packages(self):
        text = "# all\n./sandhog\n-r other.txt\nrequests >= 2  # http\nhttpx[http2]; python_version > '3'\n"
        file = self.write("requirements.txt", text)
        self.assertEqual(names_in(file), ["requests >= 2", "httpx[http2]; python_version > '3'"])
        with self.assertRaisesRegex(PackageError, "none.txt can't be read: No such file"):
            names_in(self.folder / "none.txt")

    def test_a_package_brings_along_what_it_requires(self):
        roots = [root.name for root in packages_of(["componentize-py"]).roots]
        self.assertIn("componentize_py", roots)

    def test_a_package_is_found_by_the_name_that_it_is_imported_by(self):
        self.assertEqual(packages_of(["pkg_resources"]).roots, packages_of(["setuptools"]).roots)

    def test_a_package_that_is_not_here_is_named(self):
        with self.assertRaisesRegex(PackageError, "there is no package no_such here: pip install no-such"):
            packages_of(["no_such"])

    def test_what_is_no_name_is_named(self):
        with self.assertRaisesRegex(PackageError, "'a b' is no name of a package"):
            packages_of(["a b"])


class ManifestTest(InFolder):
    def test_the_lines_that_a_component_needs(self):
        self.assertEqual(lines_for({"http", "send"}, {"b", "a"}), ['send = ["a", "b"]', 'http = ["https://api.example.com"]'])
        self.assertEqual(lines_for({"send"}), ['send = ["QUEUE"]'])

    def test_what_a_manifest_lacks_and_has_for_nothing_is_said(self):
        lacks = "orders.toml lacks, without which the host refuses the component:"
        for text, uses, expected in [
            ('[grant]\nsend = ["a"]', {"send"}, []),
            ("[grant]\nhttp = []", {"http"}, []),
            ("", {"keyvalue"}, [f"{lacks}\n    [grant]\n    keyvalue = true"]),
            ('[grant]\nsend = ["b"]', {"send"}, ['orders.toml does not grant the queue a: add "a" to send in [grant]']),
            ('[grant]\nhttp = ["x"]', set(), ["orders.toml grants http, which the handler does not use"]),
            ("= [", set(), None),
        ]:
            remarks = remarks_on(self.write("orders.toml", text), uses, {"a"} if uses == {"send"} else set())
            if sys.version_info < (3, 11):
                self.assertEqual(remarks, [])  # It can't read TOML.
            elif expected is None:
                self.assertIn("orders.toml can't be read", remarks[0])
            else:
                self.assertEqual(remarks, expected)


if __name__ == "__main__":
    unittest.main()
