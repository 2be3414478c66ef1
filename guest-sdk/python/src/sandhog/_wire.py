"""What ``http.client`` takes for a socket: the bytes of a request go in, and the host sends it."""

from __future__ import annotations

import io
from collections.abc import Iterable
from http.client import HTTPMessage, HTTPResponse, responses
from typing import Any

from . import _host
from ._exchange import Exchange, InvalidRequest, Timeout, head_of

_END = b"\r\n\r\n"


class Wire:
    """A connection to one server, for one request."""

    def __init__(self, scheme: str, host: str, port: int | None, timeout: Any) -> None:
        authority = f"[{host}]" if ":" in host else host
        self._origin = f"{scheme}://{authority}" + ("" if port is None else f":{port}")
        self._timeout = timeout if isinstance(timeout, (int, float)) else None
        self._head = b""
        self._exchange: Exchange | None = None
        self._body: _Sized | _Chunked = _Sized(0)
        self._answer: tuple[int, list[tuple[str, str]]] | Timeout | None = None

    def sendall(self, data: Any) -> None:
        """Takes the next bytes of the request: its head, then its body."""
        data = bytes(data)
        if self._exchange is None:
            self._head += data
            head, end, data = self._head.partition(_END)
            if not end:
                return
            self._exchange = self._begun(head.decode("latin-1"))
        for piece in self._body.content_of(data):
            self._exchange.write(piece)
        if self._body.is_complete and self._answer is None:
            self._ask(self._exchange)

    def _begun(self, head: str) -> Exchange:
        line, *lines = head.split("\r\n")
        method, _, rest = line.partition(" ")
        target = rest.rpartition(" ")[0]
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        named = {name.lower(): value for name, value in headers}
        if "chunked" in named.get("transfer-encoding", "").lower():
            self._body = _Chunked()
        else:
            self._body = _Sized(int(named.get("content-length", "0")))
        if not target.startswith("/"):
            raise InvalidRequest("a component asks servers itself, and not through a proxy")
        has_body = not self._body.is_complete
        return _host.current().exchange(
            head_of(method, self._origin + target, headers, has_body=has_body, timeout=self._timeout)
        )

    def _ask(self, exchange: Exchange) -> None:
        # A server that can't be reached is told while the request is sent, as it is where there are sockets; one that takes
        # too long, when the response is asked for.
        try:
            self._answer = exchange.response()
        except Timeout as error:
            self._answer = error

    def answer(self) -> tuple[int, list[tuple[str, str]]]:
        """Returns the status and the headers of the response."""
        if self._exchange is None:
            raise ConnectionError("there is no response before the request")
        if self._answer is None:
            self._ask(self._exchange)
        if isinstance(self._answer, tuple):
            return self._answer
        raise self._answer or ConnectionError("there is no response")

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        """Returns the body of the response."""
        return io.BufferedReader(_Incoming(self, self._exchange))

    def settimeout(self, timeout: Any) -> None:
        """Says how long the response may take."""
        self._timeout = timeout

    def gettimeout(self) -> Any:
        """Returns how long the response may take."""
        return self._timeout

    def setsockopt(self, *_: Any) -> None:
        """Does nothing."""

    def shutdown(self, _: int) -> None:
        """Does nothing: the response may be still being read."""

    def close(self) -> None:
        """Does nothing: the response may be still being read, and closes what it holds."""


class WireResponse(HTTPResponse):
    """A response whose head is not parsed from text, because the host has done that."""

    def begin(self) -> None:
        """Waits for the head."""
        if self.headers is not None:
            return
        status, headers = self.fp.raw.wire.answer()
        self.code = self.status = status
        self.reason = responses.get(status, "")
        self.version = 11
        self.headers = self.msg = HTTPMessage()
        for name, value in headers:
            # The host takes the body apart.
            if name.lower() != "transfer-encoding":
                self.headers[name] = value
        self.chunked = False
        self.chunk_left = None
        length = self.headers.get("content-length", "")
        self.length = int(length) if length.isdecimal() else None
        if status in (204, 304) or self._method == "HEAD":
            self.length = 0
        # Each request has a connection of its own here; the host keeps the real ones.
        self.will_close = True


class _Incoming(io.RawIOBase):
    """The body of a response as a file."""

    def __init__(self, wire: Wire, exchange: Exchange | None) -> None:
        self.wire = wire
        self._exchange = exchange

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._exchange.read(len(buffer)) if self._exchange else b""
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed and self._exchange:
            self._exchange.close()
        super().close()


class _Sized:
    """A body of a known size."""

    def __init__(self, size: int) -> None:
        self._left = size

    @property
    def is_complete(self) -> bool:
        """Whether all of it was written."""
        return self._left <= 0

    def content_of(self, data: bytes) -> Iterable[bytes]:
        """Returns the content in the next bytes."""
        self._left -= len(data)
        return [data] if data else []


class _Chunked:
    """A body that is written in chunks, which are taken apart here: the host makes its own."""

    def __init__(self) -> None:
        self._line = b""
        self._left = 0
        self._skip = 0
        self.is_complete = False

    def content_of(self, data: bytes) -> Iterable[bytes]:
        """Returns the content in the next bytes."""
        while data and not self.is_complete:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                self._skip = 0 if self._left else len(b"\r\n")
                yield piece
            elif self._skip:
                skipped = min(self._skip, len(data))
                self._skip -= skipped
                data = data[skipped:]
            else:
                line, end, rest = (self._line + data).partition(b"\r\n")
                self._line, data = (b"", rest) if end else (line, b"")
                if end:
                    self._left = int(line.split(b";")[0], 16)
                    self.is_complete = self._left == 0
