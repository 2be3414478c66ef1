"""Sources that are put into a finished component: for builds in a second while a handler is being written.

The component is built once with a place for sources in its memory. Later builds write other sources there, and the first call of
the handler imports them.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import linecache
import sys
import zlib
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_FOLDER = Path(__file__).parent.parent
_MARK = b"sandhog-sources:"
_SIZE_DIGITS = 8
SLOT_BYTES = 256 * 1024


def empty() -> bytes:
    """Returns a place without sources. No other bytes of a component look like it."""
    return _MARK * (SLOT_BYTES // len(_MARK))


def filled(app: str, sources: dict[str, str]) -> bytes | None:
    """Returns a place with sources, by the paths of their files; ``None`` if they are too large.

    :param app: The module of the handler.
    """
    content = zlib.compress(json.dumps([app, sources]).encode(), 6)
    if len(content) > SLOT_BYTES - _SIZE_DIGITS:
        return None
    return (b"%0*d" % (_SIZE_DIGITS, len(content)) + content).ljust(SLOT_BYTES, b"\0")


def import_from(slot: bytes) -> None:
    """Imports the handler that was put into a place."""
    size = int(slot[:_SIZE_DIGITS])
    app, sources = json.loads(zlib.decompress(slot[_SIZE_DIGITS : _SIZE_DIGITS + size]))
    sys.meta_path.insert(0, _Finder(sources))
    importlib.import_module(app)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports modules from texts."""

    def __init__(self, sources: dict[str, str]) -> None:
        self._sources = sources

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        stem = name.replace(".", "/")
        for file, is_package in ((f"{stem}/__init__.py", True), (f"{stem}.py", False)):
            if file in self._sources:
                return importlib.util.spec_from_loader(name, self, origin=file, is_package=is_package)
        return None

    def exec_module(self, module: ModuleType) -> None:
        file = module.__spec__.origin if module.__spec__ else None
        assert file is not None
        source = self._sources[file]
        module.__file__ = str(_FOLDER / file)
        linecache.cache[module.__file__] = (len(source), None, source.splitlines(keepends=True), module.__file__)
        exec(compile(source, module.__file__, "exec"), module.__dict__)
