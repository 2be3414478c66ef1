"""What a handler remembers between messages. The manifest grants it: ``[grant] keyvalue = true``.

::

    from sandhog import keyvalue

    seen = keyvalue.open("orders")
    if seen.exists(order_id):
        return
    seen.set(order_id, "billed")
    keyvalue.open().increment("handled")

What a handler writes belongs to the attempt: it happens in one transaction with the deletion of the message, and is dropped if
the handler fails. The attempt itself reads what it has written.
"""

from __future__ import annotations

import json as _json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, Union

from . import _host
from ._failure import HostError

__all__ = ["KeyValueError", "Store", "open"]

_MANY_KEYS_MAX = 1000


class KeyValueError(HostError):
    """What a store did not do, and why. A handler that does not catch it fails, and its message is tried again."""


class Bucket(Protocol):
    """A store, as a host has it."""

    def get(self, key: str) -> bytes | None:
        """Returns a value."""

    def set(self, key: str, value: bytes) -> None:
        """Writes a value."""

    def delete(self, key: str) -> None:
        """Removes a key."""

    def exists(self, key: str) -> bool:
        """Whether there is such a key."""

    def keys(self, cursor: str | None) -> tuple[list[str], str | None]:
        """Returns a page of keys, and what to ask with for the next one."""

    def increment(self, key: str, delta: int) -> int:
        """Adds to a number."""

    def compare_and_set(self, key: str, expected: bytes | None, new: bytes) -> bool:
        """Writes a value in place of another."""

    def get_many(self, keys: list[str]) -> dict[str, bytes]:
        """Returns the values of the keys that are there."""

    def set_many(self, values: dict[str, bytes]) -> None:
        """Writes several values."""

    def delete_many(self, keys: list[str]) -> None:
        """Removes several keys."""


Value = Union[bytes, str]
"""Bytes, or text, which is kept as UTF-8."""


class Store:
    """One of the handler's stores. A key has 1 to 1024 bytes, a value at most 1 MiB."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def get(self, key: str) -> bytes | None:
        """Returns the value of a key; ``None`` if it is not there."""
        return self._bucket.get(key)

    def get_text(self, key: str) -> str | None:
        """Returns a value that is text; ``None`` if it is not there."""
        value = self.get(key)
        return None if value is None else value.decode()

    def get_json(self, key: str) -> Any:
        """Returns a value that is JSON; ``None`` if it is not there."""
        value = self.get(key)
        return None if value is None else _json.loads(value)

    def set(self, key: str, value: Value) -> None:
        """Writes a value, in place of any other."""
        self._bucket.set(key, _bytes_of(value))

    def set_json(self, key: str, value: Any) -> None:
        """Writes the JSON of a value."""
        self.set(key, _json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))

    def delete(self, key: str) -> None:
        """Removes a key, if it is there."""
        self._bucket.delete(key)

    def exists(self, key: str) -> bool:
        """Whether there is such a key."""
        return self._bucket.exists(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Goes through all keys, or those that begin so, in the order of their bytes."""
        cursor = None
        while True:
            page, cursor = self._bucket.keys(cursor)
            yield from (key for key in page if key.startswith(prefix))
            if cursor is None:
                return

    def increment(self, key: str, delta: int = 1) -> int:
        """Adds to a decimal number, which may be negative, and returns the sum. A key that is not there counts as 0.

        Attempts that do so at the same time lose nothing: ``delta`` is added to what is there when the attempt ends.
        """
        return self._bucket.increment(key, delta)

    def compare_and_set(self, key: str, expected: Value | None, new: Value) -> bool:
        """Writes a value if the key has the one that is expected (``None``: if it is not there). Otherwise returns ``False``.

        This is decided by what the attempt sees. If another attempt has changed the key by the time this one ends, nothing of
        this attempt happens, and its message is tried again.
        """
        return self._bucket.compare_and_set(key, None if expected is None else _bytes_of(expected), _bytes_of(new))

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Returns the values of the keys that are there."""
        found: dict[str, bytes] = {}
        for some in _portions(keys):
            found.update(self._bucket.get_many(some))
        return found

    def set_many(self, values: Mapping[str, Value]) -> None:
        """Writes several values."""
        for some in _portions(values):
            self._bucket.set_many({key: _bytes_of(values[key]) for key in some})

    def delete_many(self, keys: Iterable[str]) -> None:
        """Removes those of several keys that are there."""
        for some in _portions(keys):
            self._bucket.delete_many(some)


def open(name: str = "default") -> Store:
    """Opens a store, which need not have been there before. Its name has at most 256 bytes.

    :raises KeyValueError: if it is not granted.
    """
    return Store(_host.current().bucket(name))


def _portions(keys: Iterable[str]) -> Iterator[list[str]]:
    """Divides keys into as many as a host takes at a time."""
    rest = list(keys)
    while rest:
        yield rest[:_MANY_KEYS_MAX]
        rest = rest[_MANY_KEYS_MAX:]


def _bytes_of(value: Value) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"a value is bytes or text, and not {type(value).__name__}: set_json takes others")
