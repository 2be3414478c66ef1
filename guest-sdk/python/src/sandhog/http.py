"""A small client for HTTP. The manifest grants the servers: ``[grant] http = ["https://api.example.com"]``.

::

    from sandhog import http

    response = http.request("POST", "https://api.example.com/invoices", json={"order": 7}, timeout=5)
    if response.status == 429:
        raise sandhog.RetryAfter("busy", response.retry_after())
    invoice = response.json()

``urllib.request``, ``http.client``, ``requests`` and ``httpx`` work as well, and raise errors of their own.
"""

from __future__ import annotations

import json as _json
import time
from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Union
from urllib.parse import urljoin

from . import _host
from ._exchange import (
    Exchange,
    HeaderInput,
    Headers,
    HttpError,
    InvalidRequest,
    LimitReached,
    NotGranted,
    RequestHead,
    Timeout,
    Unreachable,
    head_of,
)

__all__ = [
    "Headers",
    "HttpError",
    "InvalidRequest",
    "LimitReached",
    "NotGranted",
    "Response",
    "Timeout",
    "Unreachable",
    "request",
]

# Tracebacks name them as a handler imports them.
for _error in (HttpError, InvalidRequest, LimitReached, NotGranted, Timeout, Unreachable):
    _error.__module__ = __name__

Body = Union[str, bytes, Iterable[bytes]]

_ABSENT: Any = object()
_PIECE_BYTES = 64 * 1024
_REDIRECTS_MAX = 10


class Response:
    """The response to a request. Its body is read when it is asked for, at once or piece by piece::

    for piece in response:
        digest.update(piece)
    """

    def __init__(self, url: str, status: int, headers: Headers, exchange: Exchange) -> None:
        self.url = url
        """Where the response came from, after redirects."""
        self.status = status
        self.headers = headers
        self._exchange = exchange
        self._body: bytes | None = None

    @property
    def ok(self) -> bool:
        """Whether the status says success (200 to 299)."""
        return 200 <= self.status < 300

    @property
    def body(self) -> bytes:
        """All of the body that was not read piece by piece."""
        if self._body is None:
            self._body = b"".join(self)
        return self._body

    def text(self) -> str:
        """Returns the body as text, in the encoding that the header ``content-type`` names; UTF-8 if it names none."""
        _, _, charset = self.headers.get("content-type", "").lower().partition("charset=")
        try:
            return self.body.decode(charset.split(";")[0].strip(" \"'") or "utf-8", errors="replace")
        except LookupError:
            return self.body.decode(errors="replace")

    def json(self) -> Any:
        """Returns the value of a body that is JSON.

        :raises ValueError: if it is not.
        """
        return _json.loads(self.body)

    def retry_after(self, default: float = 60) -> float:
        """Returns how many seconds the server asks to wait, by the header ``retry-after``; the default if it does not say."""
        value = self.headers.get("retry-after", "").strip()
        if value.isdecimal():
            return float(value)
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            return default

    def read(self, size: int) -> bytes:
        """Returns the next bytes of the body: at most so many, and none at its end."""
        return self._exchange.read(size)

    def close(self) -> None:
        """Gives up what was not read. A response that was read to its end is closed."""
        self._exchange.close()

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._exchange.read(_PIECE_BYTES):
            yield piece

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Response {self.status} from {self.url}>"


def request(
    method: str,
    url: str,
    *,
    headers: HeaderInput = (),
    body: Body | None = None,
    json: Any = _ABSENT,
    timeout: float | None = None,
    redirects: int = _REDIRECTS_MAX,
) -> Response:
    """Sends a request, and returns the response, whatever its status is.

    :param body: Text, bytes, or an iterable of bytes, which is sent piece by piece.
    :param json: A value whose JSON is the body.
    :param timeout: The most seconds until the response begins, and between two pieces of it. Without one, the attempt's own
        timeout ends it.
    :param redirects: How many redirects are followed; the manifest must grant each server on the way. 0 returns the redirect.
    :raises HttpError: if there is no response.
    """
    sent = Headers(headers).entries
    if json is not _ABSENT:
        if body is not None:
            raise TypeError("a request has either a body or json")
        body = _json.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        sent = _with(sent, "content-type", "application/json")
    if isinstance(body, (str, bytearray, memoryview)):
        body = body.encode() if isinstance(body, str) else bytes(body)
    if isinstance(body, bytes):
        sent = _with(sent, "content-length", str(len(body)))
    while True:
        head = head_of(method, url, sent, has_body=body is not None and body != b"", timeout=timeout)
        response = _exchanged(head, body)
        following = _redirect(response, method.upper(), body) if redirects > 0 else None
        if following is None:
            return response
        response.close()
        url, same = following
        if head_of("GET", url, (), has_body=False, timeout=None).origin != head.origin:
            sent = _without(sent, "authorization", "cookie")
        if not same:
            method, body = ("HEAD" if method.upper() == "HEAD" else "GET"), None
            sent = _without(sent, "content-length", "content-type")
        redirects -= 1


def _exchanged(head: RequestHead, body: bytes | Iterable[bytes] | None) -> Response:
    exchange = _host.current().exchange(head)
    try:
        for piece in [body] if isinstance(body, bytes) else body or []:
            exchange.write(piece)
        status, headers = exchange.response()
    except BaseException:
        exchange.close()
        raise
    return Response(head.url, status, Headers(headers), exchange)


def _redirect(response: Response, method: str, body: bytes | Iterable[bytes] | None) -> tuple[str, bool] | None:
    """Returns where a response leads and whether the request goes there as it is; ``None`` if it leads nowhere."""
    location = response.headers.get("location")
    if location is None or response.status not in (301, 302, 303, 307, 308):
        return None
    same = response.status in (307, 308) or (response.status != 303 and method != "POST")
    if same and not isinstance(body, (bytes, type(None))):
        return None  # What was read piece by piece can't be sent a second time.
    return urljoin(response.url, location), same


def _with(headers: list[tuple[str, str]], name: str, value: str) -> list[tuple[str, str]]:
    return headers if name in Headers(headers) else [*headers, (name, value)]


def _without(headers: list[tuple[str, str]], *names: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in names]
