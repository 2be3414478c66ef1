"""The decorators that make a function the handler of its component."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Optional, TypeVar

from ._failure import Failure
from ._message import Message

Handler = Callable[[Message], None]
BatchHandler = Callable[[list[Message]], Sequence[Optional[Failure]]]

H = TypeVar("H", bound=Callable[[Message], None])
B = TypeVar("B", bound=Callable[[list[Message]], Sequence[Optional[Failure]]])

_registered: tuple[str, Any] | None = None


def handler(function: H) -> H:
    """Makes a function the handler of this component: it is called once for every message received.

    Returning means success: the message is deleted, and what was sent goes out. Raising a :class:`~sandhog.Failure` says what
    becomes of the message. Any other exception is a crash: its traceback is logged, and the message is tried again.

    The function stays what it is, for tests and other callers.
    """
    _register("handler", function)
    return function


def batch_handler(function: B) -> B:
    """Makes a function the batch handler of this component: it is called with several messages at a time, never two of one
    group.

    It returns one result per message, in the order of the messages: ``None`` for success, or a :class:`~sandhog.Failure`. Any
    other number fails all of them. A failure that is raised is that of every message.
    """
    _register("batch-handler", function)
    return function


def registered() -> tuple[str, Any]:
    """Returns the kind and the function of the one handler."""
    if _registered is None:
        raise LookupError("no function has the decorator @sandhog.handler or @sandhog.batch_handler")
    return _registered


def _register(kind: str, function: Any) -> None:
    global _registered
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{function.__qualname__} is asynchronous; a handler is a plain function")
    if _registered is not None and _registered[1].__module__ == function.__module__:
        raise TypeError(f"{_registered[1].__qualname__} is a handler already; a component has one")
    _registered = (kind, function)
