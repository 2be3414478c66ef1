"""Passes messages and failures between the component's interface and a handler. Exists in a component only."""

from __future__ import annotations

import codecs
import contextlib
import importlib
import linecache
import logging
import os
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import componentize_py_types as wit
from wit_world.imports import crash, types
from wit_world.imports import logging as host_log

from . import _crash, _host, _verdict
from ._attribute import AttributeValue
from ._failure import Failure, Reject, RetryAfter
from ._handler import registered
from ._log import TRACE
from ._message import Message
from ._send import InvalidMessage, LimitReached, NotGranted, Outgoing

if TYPE_CHECKING:
    from ._exchange import Exchange, RequestHead
    from .keyvalue import Bucket

T = TypeVar("T")

# Codecs are imported when they are first used, which is too late in a component.
_CODECS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "iso8859-15", "cp1252", "idna"]

# What is imported early for what a component uses of the host.
_MODULES = {
    "http": ["sandhog._guest_http", "sandhog.http"],
    "keyvalue": ["sandhog._guest_keyvalue", "sandhog.keyvalue"],
    "config": ["sandhog.config"],
}

# Where the sources of the handler are, if it was not imported when the component was built.
_slot_of_handler: bytes | None = None

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LEVELS = [
    (logging.CRITICAL, host_log.Level.CRITICAL),
    (logging.ERROR, host_log.Level.ERROR),
    (logging.WARNING, host_log.Level.WARN),
    (logging.INFO, host_log.Level.INFO),
    (logging.DEBUG, host_log.Level.DEBUG),
    (TRACE, host_log.Level.TRACE),
]


class _LogHandler(logging.Handler):
    """Writes the lines of :mod:`logging` to the host's log."""

    def emit(self, record: logging.LogRecord) -> None:
        level = next((level for least, level in _LEVELS if record.levelno >= least), host_log.Level.TRACE)
        context = "" if record.name in ("root", "sandhog") else record.name
        host_log.log(level, context, _well_formed(self.format(record)))


class _Host:
    """The host of the component."""

    def send(self, queue: str, message: Outgoing) -> None:
        from wit_world.imports import sender

        _answered(lambda: sender.send(queue, _outgoing(message)))

    def send_many(self, queue: str, messages: list[Outgoing]) -> None:
        from wit_world.imports import sender

        _answered(lambda: sender.send_many(queue, [_outgoing(message) for message in messages]))

    def exchange(self, head: RequestHead) -> Exchange:
        from ._guest_http import WasiExchange

        return WasiExchange(head)

    def bucket(self, name: str) -> Bucket:
        from ._guest_keyvalue import WasiBucket

        return WasiBucket(name)

    def setting(self, name: str) -> str | None:
        from wit_world.imports import config_store

        return _configured(lambda: config_store.get(name))

    def settings(self) -> dict[str, str]:
        from wit_world.imports import config_store

        return dict(_configured(config_store.get_all))


def start(uses: list[str]) -> None:
    """Connects this process to its host. Called once, when the component is built.

    :param uses: What the component imports of the host.
    """
    for name in _CODECS:
        codecs.lookup(name)
    root = logging.getLogger()
    root.addHandler(_LogHandler())
    root.setLevel(1)
    _host.connect(_Host())
    if "http" in uses:
        sys.modules["ssl"] = importlib.import_module("sandhog._tls")
        importlib.import_module("sandhog._stacks").install()
    for use in uses:
        for name in _MODULES.get(use, []):
            importlib.import_module(name)


def preload(names: list[str]) -> None:
    """Imports what the handler's modules import inside of functions: when they run, there are no files to import it from."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def take_sources(slot: bytes) -> None:
    """Leaves the import of the handler to the first call, from a place in memory that is filled until then."""
    global _slot_of_handler
    _slot_of_handler = slot


def remember_sources() -> None:
    """Keeps the lines of all modules for tracebacks: a component has no files to read them from."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(Path(__file__).parent.parent):
            lines = linecache.getlines(file)
            # Without a time of change an entry is never checked against the file.
            linecache.cache[file] = (sum(map(len, lines)), None, lines, file)


def handle(message: types.Message) -> None:
    """Handles one message."""
    failure = _or_crash(lambda: _verdict.run(_handler(), _received(message)))
    if failure is not None:
        raise wit.Err(_failure(failure))


def handle_batch(messages: list[types.Message]) -> list[Any]:
    """Handles several messages."""
    failures = _or_crash(lambda: _verdict.run_batch(_handler(), [_received(message) for message in messages]))
    return [wit.Ok(None) if failure is None else wit.Err(_failure(failure)) for failure in failures]


def _handler() -> Any:
    global _slot_of_handler
    if _slot_of_handler is not None:
        from . import _slot

        slot, _slot_of_handler = _slot_of_handler, None
        _slot.import_from(slot)
    return registered()[1]


def _or_crash(call: Callable[[], T]) -> T:
    try:
        return call()
    except SystemExit as error:
        crash.report(f"the handler called sys.exit({error.code!r})", _crash.stack_of(error))
    except BaseException as error:
        crash.report(_well_formed(_crash.reason_of(error)), _well_formed(_crash.stack_of(error)))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    # An exception that leaves the handler would be printed once more.
    os.abort()


def _configured(call: Callable[[], T]) -> T:
    from .config import ConfigError

    try:
        return call()
    except wit.Err as error:
        raise ConfigError(error.value.value) from None


def _answered(call: Callable[[], None]) -> None:
    from wit_world.imports import sender

    kinds = {
        sender.SendError_NotGranted: NotGranted,
        sender.SendError_Invalid: InvalidMessage,
        sender.SendError_Limit: LimitReached,
    }
    try:
        call()
    except wit.Err as error:
        raise kinds[type(error.value)](error.value.value) from None


def _received(message: types.Message) -> Message:
    return Message(
        id=message.id,
        body=message.body,
        attributes={name: _value(value) for name, value in message.attributes},
        queue=message.queue,
        receive_count=message.receive_count,
        sent_at=_EPOCH + timedelta(milliseconds=message.sent_at_ms),
        group_id=message.group_id,
    )


def _value(value: Any) -> AttributeValue:
    return Decimal(value.value) if isinstance(value, types.AttributeValue_Number) else value.value


def _outgoing(message: Outgoing) -> Any:
    from wit_world.imports import sender

    return sender.Outgoing(
        body=message.body,
        attributes=[(name, _attribute(value)) for name, value in message.attributes.items()],
        delay_seconds=message.delay_seconds,
        group_id=message.group_id,
        deduplication_id=message.deduplication_id,
        priority=message.priority,
    )


def _attribute(value: AttributeValue) -> Any:
    if isinstance(value, str):
        return types.AttributeValue_Text(_well_formed(value))
    if isinstance(value, Decimal):
        return types.AttributeValue_Number(str(value))
    return types.AttributeValue_Binary(value)


def _failure(failure: Failure) -> Any:
    reason = _well_formed(failure.reason)
    if isinstance(failure, RetryAfter):
        return types.Failure_RetryAfter((reason, failure.seconds))
    return types.Failure_Reject(reason) if isinstance(failure, Reject) else types.Failure_Retry(reason)


def _well_formed(text: str) -> str:
    """Replaces what has no UTF-8 form, which the interface does not take."""
    return text.encode(errors="replace").decode()
