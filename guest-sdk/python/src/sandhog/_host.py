"""What stands behind sends and log lines: the host of a component, or the recorder of a test."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ._exchange import Exchange, RequestHead
    from ._send import Outgoing
    from .keyvalue import Bucket


class Host(Protocol):
    """The host, as far as a handler can call it."""

    def send(self, queue: str, message: Outgoing) -> None:
        """Sends one message."""

    def send_many(self, queue: str, messages: list[Outgoing]) -> None:
        """Sends several messages or none."""

    def exchange(self, head: RequestHead) -> Exchange:
        """Begins a request over HTTP."""

    def bucket(self, name: str) -> Bucket:
        """Opens a key-value store."""

    def setting(self, name: str) -> str | None:
        """Returns a value of the configuration."""

    def settings(self) -> dict[str, str]:
        """Returns the configuration."""


_current: ContextVar[Host | None] = ContextVar("sandhog_host", default=None)


_component: Host | None = None


def connect(host: Host) -> None:
    """Sets the host of a component, for all that it will ever run."""
    global _component
    _component = host


def current() -> Host:
    """Returns the host of the attempt under way."""
    host = _current.get() or _component
    if host is None:
        raise RuntimeError(
            "there is no host here: a handler reaches it when it is called, in a component or through sandhog.testing.run"
        )
    return host


def is_there() -> bool:
    """Whether an attempt is under way, or this is a component."""
    return (_current.get() or _component) is not None


enter = _current.set
leave = _current.reset
