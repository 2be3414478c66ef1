"""Typed values that travel beside a message's body."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Union

AttributeValue = Union[str, Decimal, bytes]
"""A value of a message attribute: text, a number or bytes. The three are kept apart on every kind of queue."""

AttributeInput = Union[str, Decimal, int, bytes]
"""What can be sent as an attribute. A ``float`` can't: the digits of ``0.1 + 0.2`` are seldom those that are meant."""


def attributes_of(attributes: Mapping[str, AttributeInput] | None) -> dict[str, AttributeValue]:
    """Turns what a program wrote into one of the three kinds each."""
    return {name: _value_of(name, value) for name, value in (attributes or {}).items()}


def _value_of(name: str, value: AttributeInput) -> AttributeValue:
    if isinstance(value, bool):
        raise TypeError(f"attribute {name!r}: a bool has no kind of its own: write text or a number")
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"attribute {name!r}: {value} is not a decimal number")
        return value
    if isinstance(value, float):
        raise TypeError(f"attribute {name!r}: write the digits that are meant, as Decimal({str(value)!r})")
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (str, bytes)):
        return value
    raise TypeError(f"attribute {name!r} is not a str, an int, a Decimal or bytes")
