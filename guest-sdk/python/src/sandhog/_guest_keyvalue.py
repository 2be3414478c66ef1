"""The stores of a component over ``wasi:keyvalue``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import componentize_py_types as wit
from wit_world.imports import atomics, batch
from wit_world.imports import keyvalue_store as store

from .keyvalue import KeyValueError

T = TypeVar("T")


class WasiBucket:
    """A store of this component."""

    def __init__(self, name: str) -> None:
        self._bucket = _answered(lambda: store.open(name))

    def get(self, key: str) -> bytes | None:
        return _answered(lambda: self._bucket.get(key))

    def set(self, key: str, value: bytes) -> None:
        _answered(lambda: self._bucket.set(key, value))

    def delete(self, key: str) -> None:
        _answered(lambda: self._bucket.delete(key))

    def exists(self, key: str) -> bool:
        return _answered(lambda: self._bucket.exists(key))

    def keys(self, cursor: str | None) -> tuple[list[str], str | None]:
        page = _answered(lambda: self._bucket.list_keys(cursor))
        return page.keys, page.cursor

    def increment(self, key: str, delta: int) -> int:
        return _answered(lambda: atomics.increment(self._bucket, key, delta))

    def compare_and_set(self, key: str, expected: bytes | None, new: bytes) -> bool:
        noted = _answered(lambda: atomics.Cas.new(self._bucket, key))
        if _answered(noted.current) != expected:
            noted.__exit__(None, None, None)
            return False
        try:
            atomics.swap(noted, new)
        except wit.Err as error:
            if isinstance(error.value, atomics.CasError_StoreError):
                raise _error(error.value.value) from None
            error.value.value.__exit__(None, None, None)
            return False
        return True

    def get_many(self, keys: list[str]) -> dict[str, bytes]:
        return dict(entry for entry in _answered(lambda: batch.get_many(self._bucket, keys)) if entry is not None)

    def set_many(self, values: dict[str, bytes]) -> None:
        _answered(lambda: batch.set_many(self._bucket, list(values.items())))

    def delete_many(self, keys: list[str]) -> None:
        _answered(lambda: batch.delete_many(self._bucket, keys))


def _answered(call: Callable[[], T]) -> T:
    try:
        return call()
    except wit.Err as error:
        raise _error(error.value) from None


def _error(error: Any) -> KeyValueError:
    if isinstance(error, store.Error_Other):
        return KeyValueError(error.value)
    return KeyValueError("there is no such store" if isinstance(error, store.Error_NoSuchStore) else "access is denied")
