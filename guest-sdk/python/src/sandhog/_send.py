"""Messages that a handler sends."""

from __future__ import annotations

import json as _json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from . import _host
from ._attribute import AttributeInput, AttributeValue, attributes_of
from ._failure import Failure, HostError, Reject, Retry, seconds_of

_ABSENT: Any = object()
_PRIORITY_MAX = 9
_SECONDS_MAX = 2**32 - 1


class SendError(HostError):
    """Why a message was not accepted for sending: one of the three subclasses.

    A handler that does not catch it fails as it fits: see each of them.
    """

    kind = ""
    _meaning = ""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{self._meaning}: {reason}")

    def as_failure(self) -> Failure:
        """Returns the failure that fits."""
        return Reject(str(self))


class NotGranted(SendError):
    """The manifest does not grant this queue. Uncaught it is a retry, since an operator can add it while the messages wait."""

    kind = "not-granted"
    _meaning = "sending is not granted"

    def as_failure(self) -> Failure:
        return Retry(str(self))


class InvalidMessage(SendError):
    """The message itself is not acceptable; the text says what and why. Uncaught it is a rejection."""

    kind = "invalid"
    _meaning = "the message to be sent is not valid"


class LimitReached(SendError):
    """The attempt has sent as many messages, or as many bytes, as it may. Uncaught it is a rejection."""

    kind = "limit"
    _meaning = "the attempt may not send more"


@dataclass(frozen=True, init=False)
class Outgoing:
    """A message to be sent: a body, or ``json``, or neither for an empty one.

    :param body: Text or any bytes, up to 1 MiB.
    :param json: A value whose JSON is the body.
    :param attributes: At most 10, with names of 1 to 256 characters.
    :param delay: Hides the message for so long after it was sent: seconds or a :class:`~datetime.timedelta`, 0 to 12 hours.
    :param group_id: Messages of one group are handled one after another, in the order sent.
    :param deduplication_id: A second message with the same id within five minutes is accepted and dropped.
    :param priority: 0 (the default) to 9, which is received first.
    """

    body: bytes
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    delay_seconds: int | None = None
    group_id: str | None = None
    deduplication_id: str | None = None
    priority: int | None = None

    def __init__(
        self,
        body: str | bytes | None = None,
        *,
        json: Any = _ABSENT,
        attributes: Mapping[str, AttributeInput] | None = None,
        delay: float | timedelta | None = None,
        group_id: str | None = None,
        deduplication_id: str | None = None,
        priority: int | None = None,
    ) -> None:
        if priority is not None and not 0 <= priority <= _PRIORITY_MAX:
            raise InvalidMessage(f"priority {priority} is not 0 to {_PRIORITY_MAX}")
        try:
            seconds = None if delay is None else min(seconds_of(delay), _SECONDS_MAX)
        except ValueError as error:
            raise InvalidMessage(str(error)) from None
        fields = {
            "body": _body_of(body, json),
            "attributes": attributes_of(attributes),
            "delay_seconds": seconds,
            "group_id": group_id,
            "deduplication_id": deduplication_id,
            "priority": priority,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)


def send(
    queue: str,
    body: Outgoing | str | bytes | None = None,
    *,
    json: Any = _ABSENT,
    attributes: Mapping[str, AttributeInput] | None = None,
    delay: float | timedelta | None = None,
    group_id: str | None = None,
    deduplication_id: str | None = None,
    priority: int | None = None,
) -> None:
    """Sends one message. It is held back until the handler succeeds, and dropped when it fails.

    ::

        sandhog.send("reminders", "pay, please", attributes={"order": 1042}, delay=timedelta(hours=1))

    :param queue: A queue that the manifest grants: ``[grant] send = ["reminders"]``.
    :param body: The body, or an :class:`Outgoing`, whose parameters are the others.
    :raises SendError: if it is not accepted.
    """
    if isinstance(body, Outgoing):
        message = body
    else:
        message = Outgoing(
            body,
            json=json,
            attributes=attributes,
            delay=delay,
            group_id=group_id,
            deduplication_id=deduplication_id,
            priority=priority,
        )
    _host.current().send(queue, message)


def send_many(queue: str, messages: Iterable[Outgoing | str | bytes]) -> None:
    """Sends messages in their order, all of them or, on an error, none.

    :param queue: A queue that the manifest grants.
    :raises SendError: if one is not accepted.
    """
    prepared = [message if isinstance(message, Outgoing) else Outgoing(message) for message in messages]
    _host.current().send_many(queue, prepared)


def _body_of(body: str | bytes | None, json: Any) -> bytes:
    if json is not _ABSENT:
        if body is not None:
            raise TypeError("a message has either a body or json")
        try:
            body = _json.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidMessage(f"the value has no JSON form: {error}") from None
    if body is None:
        return b""
    if isinstance(body, str):
        try:
            return body.encode()
        except UnicodeEncodeError as error:
            raise InvalidMessage(f"the text has no UTF-8 form: {error}") from None
    return bytes(body)
