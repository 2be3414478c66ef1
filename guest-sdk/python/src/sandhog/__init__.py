"""Write sandhog queue handlers in Python: a function with a decorator.

::

    import sandhog

    @sandhog.handler
    def handle(message: sandhog.Message) -> None:
        order = message.json()                        # not JSON: a dead letter that says where
        if not order["items"]:
            raise sandhog.Reject("an order of nothing")   # never passes: a dead letter at once
        sandhog.send("invoices", json=invoice(order))     # goes out only if this function returns

Build it with ``python -m sandhog build app.py -o orders.wasm``, and test it with :mod:`sandhog.testing`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._attribute import AttributeInput, AttributeValue
from ._failure import Failure, Reject, Retry, RetryAfter
from ._handler import batch_handler, handler
from ._log import TRACE, log
from ._message import Message
from ._send import (
    InvalidMessage,
    LimitReached,
    NotGranted,
    Outgoing,
    SendError,
    send,
    send_many,
)

if TYPE_CHECKING:
    from . import config, http, keyvalue

__all__ = [
    "TRACE",
    "AttributeInput",
    "AttributeValue",
    "Failure",
    "InvalidMessage",
    "LimitReached",
    "Message",
    "NotGranted",
    "Outgoing",
    "Reject",
    "Retry",
    "RetryAfter",
    "SendError",
    "batch_handler",
    "handler",
    "log",
    "send",
    "send_many",
]


def __getattr__(name: str) -> Any:
    # They cost what they import, which a handler that does not use them need not pay.
    if name in ("http", "keyvalue", "config"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
