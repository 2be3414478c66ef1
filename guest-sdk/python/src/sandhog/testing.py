"""Unit tests of a handler without a host: messages to pass in, and what came out.

::

    import unittest
    from sandhog.testing import message, run
    from app import handle

    class HandlerTest(unittest.TestCase):
        def test_an_order_is_totalled(self) -> None:
            outcome = run(handle, message(json={"items": []}))
            self.assertEqual(outcome.verdict, "success")
            self.assertEqual(outcome.sent[0].json(), {"total": 0})
"""

from __future__ import annotations

import json as _json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Union

from . import _crash, _host, _stacks, _verdict
from ._attribute import AttributeInput, AttributeValue, attributes_of
from ._exchange import HeaderInput, Headers, RequestHead, not_granted
from ._failure import Failure, Reject, RetryAfter
from ._handler import BatchHandler, Handler
from ._message import Message
from ._send import _ABSENT, InvalidMessage, Outgoing, SendError, _body_of
from .config import ConfigError
from .keyvalue import Bucket, KeyValueError

_BODY_BYTES_MAX = 1_048_576
_ATTRIBUTES_MAX = 10
_NAME_CHARS_MAX = 256
_DELAY_SECONDS_MAX = 43_200
_KEY_BYTES_MAX = 1024
_INTEGER_MIN = -(2**63)


@dataclass(frozen=True)
class Sent:
    """A message that a handler sent."""

    queue: str
    body: bytes
    attributes: dict[str, AttributeValue]
    delay_seconds: int | None
    group_id: str | None
    deduplication_id: str | None
    priority: int | None

    def text(self) -> str:
        """Returns the body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """Returns the value of a body that is JSON."""
        return _json.loads(self.body)


@dataclass(frozen=True)
class Request:
    """A request over HTTP that a handler made."""

    method: str
    url: str
    headers: Headers
    body: bytes

    def text(self) -> str:
        """Returns the body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """Returns the value of a body that is JSON."""
        return _json.loads(self.body)


class Response:
    """What a test answers a request with."""

    def __init__(
        self, status: int = 200, body: str | bytes | None = None, *, json: Any = _ABSENT, headers: HeaderInput = ()
    ) -> None:
        self.status = status
        self.body = _body_of(body, json)
        self.headers = Headers(headers).entries
        if "content-length" not in Headers(self.headers):
            self.headers.append(("content-length", str(len(self.body))))


Answer = Union[Response, int, Exception]
"""A response, a status with an empty body, or an error such as :class:`sandhog.http.Timeout`."""
Answers = Union[Callable[[Request], Answer], Mapping[str, Answer]]
"""A function from a request to its answer, or a table: ``{"POST https://api.example.com/invoices": Response(201)}``."""


class Stores(dict[str, Mapping[str, Any]]):
    """The content of several key-value stores by their names: ``Stores(default={"handled": 3}, orders={})``."""


Stored = Union[Mapping[str, Any], Stores]
"""Keys, and values that are bytes, text, or anything with a JSON form."""


@dataclass(frozen=True)
class Logged:
    """A line that a handler logged, with the number of its level in :mod:`logging`."""

    level: int
    text: str


@dataclass(frozen=True)
class Verdict:
    """What became of a message."""

    verdict: str
    """``success``, ``retry``, ``retry-after``, ``reject`` or ``crash``."""
    reason: str | None = None
    """Why it failed."""
    seconds: int | None = None
    """The delay of ``retry-after``."""
    error: BaseException | None = None
    """What was raised."""


@dataclass(frozen=True)
class Outcome(Verdict):
    """What became of a message, and what the handler did besides."""

    sent: list[Sent] = field(default_factory=list)
    """What it sent, in order. The host drops what a failed attempt sent; a test can look at it."""
    logs: list[Logged] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    """The requests that it made over HTTP, in order."""
    stores: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """What its key-value stores had in them at its end, by their names. The host drops what a failed attempt wrote."""

    @property
    def keyvalue(self) -> dict[str, bytes]:
        """What the store ``default`` had in it."""
        return self.stores.get("default", {})


@dataclass(frozen=True)
class BatchOutcome:
    """What became of the messages of a batch, and what the handler did besides."""

    results: list[Verdict]
    sent: list[Sent] = field(default_factory=list)
    logs: list[Logged] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    stores: dict[str, dict[str, bytes]] = field(default_factory=dict)


def message(
    body: str | bytes | None = None,
    *,
    json: Any = _ABSENT,
    attributes: Mapping[str, AttributeInput] | None = None,
    id: str = "test-message",
    queue: str = "test",
    receive_count: int = 1,
    sent_at: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc),
    group_id: str | None = None,
) -> Message:
    """Makes a message: by default, the first receive of an empty one of queue ``test``, sent at the start of 2026."""
    return Message(id, _body_of(body, json), attributes_of(attributes), queue, receive_count, sent_at, group_id)


def run(
    handler: Handler,
    message: Message,
    *,
    http: Answers | None = None,
    keyvalue: Stored | None = None,
    config: Mapping[str, str] | None = None,
    refuse_sends: SendError | None = None,
) -> Outcome:
    """Runs a handler on one message, as a host would. What it is not given, it is not granted.

    :param http: Answers requests, however the handler makes them. One without an answer fails as if it was not granted.
    :param keyvalue: What is in the store ``default``; with other stores, a :class:`Stores` by their names.
    :param config: The settings.
    :param refuse_sends: Makes every send fail with this error.
    """
    with _recording(_Recorder(http, keyvalue, config, refuse_sends)) as recorder:
        try:
            verdict = _of(_verdict.run(handler, message))
        except Exception as error:
            verdict = _crash_of(error)
    return Outcome(**vars(verdict), **recorder.done())


def run_batch(
    handler: BatchHandler,
    messages: list[Message],
    *,
    http: Answers | None = None,
    keyvalue: Stored | None = None,
    config: Mapping[str, str] | None = None,
    refuse_sends: SendError | None = None,
) -> BatchOutcome:
    """Runs a batch handler on messages, as a host would. The parameters are those of :func:`run`."""
    with _recording(_Recorder(http, keyvalue, config, refuse_sends)) as recorder:
        try:
            results = [_of(failure) for failure in _verdict.run_batch(handler, messages)]
        except Exception as error:
            results = [_crash_of(error) for _ in messages]
    return BatchOutcome(results, **recorder.done())


def _of(failure: Failure | None) -> Verdict:
    if failure is None:
        return Verdict("success")
    if isinstance(failure, RetryAfter):
        return Verdict("retry-after", failure.reason, failure.seconds, failure)
    return Verdict("reject" if isinstance(failure, Reject) else "retry", failure.reason, None, failure)


def _crash_of(error: Exception) -> Verdict:
    return Verdict("crash", _crash.reason_of(error), None, error)


class _Recorder(logging.Handler):
    """The host of a test, and a handler of its log lines."""

    def __init__(
        self,
        answers: Answers | None,
        stored: Stored | None,
        config: Mapping[str, str] | None,
        refusal: SendError | None,
    ) -> None:
        super().__init__()
        self.answers = answers
        self.stores = None if stored is None else _stores_of(stored)
        self.config = config
        self.refusal = refusal
        self.sent: list[Sent] = []
        self.logs: list[Logged] = []
        self.requests: list[Request] = []

    def done(self) -> dict[str, Any]:
        """Returns what the handler did."""
        stores = {name: store.values for name, store in (self.stores or {}).items()}
        return {"sent": self.sent, "logs": self.logs, "requests": self.requests, "stores": stores}

    def emit(self, record: logging.LogRecord) -> None:
        self.logs.append(Logged(record.levelno, record.getMessage()))

    def send(self, queue: str, message: Outgoing) -> None:
        self.send_many(queue, [message])

    def send_many(self, queue: str, messages: list[Outgoing]) -> None:
        if self.refusal is not None:
            raise self.refusal
        for message in messages:
            _check(message)
        self.sent.extend(Sent(queue, **vars(message)) for message in messages)

    def bucket(self, name: str) -> Bucket:
        if self.stores is None:
            raise KeyValueError("no key-value store is granted: to grant one, add keyvalue = true to [grant] of the manifest")
        return self.stores.setdefault(name or "default", _PreparedStore({}))

    def setting(self, name: str) -> str | None:
        return self.settings().get(name)

    def settings(self) -> dict[str, str]:
        if self.config is None:
            raise ConfigError("no settings are granted: to grant some, add config = {} to [grant] of the manifest")
        return dict(self.config)

    def exchange(self, head: RequestHead) -> _PreparedExchange:
        return _PreparedExchange(self, head)

    def answer(self, head: RequestHead, body: bytes) -> Response:
        request = Request(head.method, head.url, Headers(head.headers), body)
        self.requests.append(request)
        answers = self.answers
        if callable(answers):
            answer: Answer | None = answers(request)
        else:
            answer = (answers or {}).get(f"{request.method} {request.url}")
        if answer is None:
            raise not_granted(head)
        if isinstance(answer, Exception):
            raise answer
        return Response(answer) if isinstance(answer, int) else answer


class _PreparedExchange:
    """A request that the test answers."""

    def __init__(self, recorder: _Recorder, head: RequestHead) -> None:
        self._recorder = recorder
        self._head = head
        self._sent = bytearray()
        self._left = b""

    def write(self, data: bytes) -> None:
        self._sent += data

    def response(self) -> tuple[int, list[tuple[str, str]]]:
        response = self._recorder.answer(self._head, bytes(self._sent))
        self._left = b"" if self._head.method == "HEAD" else response.body
        return response.status, response.headers

    def read(self, size: int) -> bytes:
        piece, self._left = self._left[:size], self._left[size:]
        return piece

    def close(self) -> None:
        self._left = b""


class _PreparedStore:
    """A key-value store in memory."""

    def __init__(self, values: dict[str, bytes]) -> None:
        self.values = values

    def get(self, key: str) -> bytes | None:
        return self.values.get(_key(key))

    def set(self, key: str, value: bytes) -> None:
        if len(value) > _BODY_BYTES_MAX:
            raise KeyValueError(f"a value of {len(value)} bytes is more than {_BODY_BYTES_MAX}")
        self.values[_key(key)] = value

    def delete(self, key: str) -> None:
        self.values.pop(_key(key), None)

    def exists(self, key: str) -> bool:
        return _key(key) in self.values

    def keys(self, cursor: str | None) -> tuple[list[str], str | None]:
        return sorted(self.values, key=str.encode), None

    def increment(self, key: str, delta: int) -> int:
        try:
            number = int(self.values.get(_key(key), b"0")) + delta
        except ValueError:
            number = _INTEGER_MIN - 1
        if not _INTEGER_MIN <= number < -_INTEGER_MIN:
            raise KeyValueError(f"nothing can be added to key {key!r}: it holds no decimal number, or the sum is out of range")
        self.values[key] = str(number).encode()
        return number

    def compare_and_set(self, key: str, expected: bytes | None, new: bytes) -> bool:
        if self.get(key) != expected:
            return False
        self.set(key, new)
        return True

    def get_many(self, keys: list[str]) -> dict[str, bytes]:
        return {key: self.values[key] for key in keys if self.exists(key)}

    def set_many(self, values: dict[str, bytes]) -> None:
        # All of them or none, as the host does it.
        changed = _PreparedStore(dict(self.values))
        for key, value in values.items():
            changed.set(key, value)
        self.values.update(changed.values)

    def delete_many(self, keys: list[str]) -> None:
        for key in [_key(key) for key in keys]:
            self.delete(key)


def _key(key: str) -> str:
    if not 1 <= len(key.encode()) <= _KEY_BYTES_MAX:
        raise KeyValueError(f"a key has {len(key.encode())} bytes, and may have 1 to {_KEY_BYTES_MAX}")
    return key


def _stores_of(stored: Stored) -> dict[str, _PreparedStore]:
    stores = stored if isinstance(stored, Stores) else {"default": stored}
    return {
        name: _PreparedStore({key: _stored_form(value) for key, value in values.items()}) for name, values in stores.items()
    }


def _stored_form(value: Any) -> bytes:
    return value if isinstance(value, bytes) else _body_of(value, _ABSENT) if isinstance(value, str) else _body_of(None, value)


@contextmanager
def _recording(recorder: _Recorder) -> Iterator[_Recorder]:
    _stacks.install()
    root = logging.getLogger()
    level = root.level
    token = _host.enter(recorder)
    root.addHandler(recorder)
    root.setLevel(1)
    try:
        yield recorder
    finally:
        root.setLevel(level)
        root.removeHandler(recorder)
        _host.leave(token)


def _check(message: Outgoing) -> None:
    """Checks the rules of the contract, and says which one is broken."""
    if len(message.body) > _BODY_BYTES_MAX:
        raise InvalidMessage(f"a body of {len(message.body)} bytes is more than {_BODY_BYTES_MAX}")
    if len(message.attributes) > _ATTRIBUTES_MAX:
        raise InvalidMessage(f"{len(message.attributes)} attributes are more than {_ATTRIBUTES_MAX}")
    for name in message.attributes:
        if not 1 <= len(name) <= _NAME_CHARS_MAX:
            raise InvalidMessage(f"attribute name {name!r} does not have 1 to {_NAME_CHARS_MAX} characters")
    if (message.delay_seconds or 0) > _DELAY_SECONDS_MAX:
        raise InvalidMessage(f"a delay of {message.delay_seconds} seconds is more than 12 hours")
