"""Requests of a component over ``wasi:http``."""

from __future__ import annotations

import contextlib
from typing import Any

import componentize_py_types as wit
from wit_world.imports import http_types as http
from wit_world.imports import outgoing_handler, streams

from . import _exchange
from ._exchange import HttpError, InvalidRequest, LimitReached, NotGranted, RequestHead, Timeout, Unreachable

_METHODS = {
    name.upper(): getattr(http, f"Method_{name.title()}")
    for name in ("get", "head", "post", "put", "delete", "connect", "options", "trace", "patch")
}
_SCHEMES = {"http": http.Scheme_Http, "https": http.Scheme_Https}
_NANOSECONDS = 1_000_000_000
_DURATION_MAX = 2**63

# What the codes of wasi:http mean for a handler. Those that are not here are told by their names.
_MEANINGS: dict[str, tuple[type[HttpError], str]] = {
    "DnsTimeout": (Timeout, "looking up {origin} took too long"),
    "DnsError": (Unreachable, "{origin} could not be looked up"),
    "DestinationNotFound": (Unreachable, "{origin} has no address"),
    "DestinationUnavailable": (Unreachable, "no connection to {origin}"),
    "DestinationIpProhibited": (
        NotGranted,
        "{origin} leads to an address that is not public: to grant it nevertheless, add the address, which is in the log, to "
        "http-addresses in [grant] of the manifest",
    ),
    "ConnectionRefused": (Unreachable, "{origin} refused the connection"),
    "ConnectionTerminated": (Unreachable, "{origin} closed the connection"),
    "ConnectionTimeout": (Timeout, "connecting to {origin} took too long"),
    "ConnectionReadTimeout": (Timeout, "{origin} took too long to answer"),
    "ConnectionWriteTimeout": (Timeout, "{origin} took too long to take the request"),
    "HttpResponseTimeout": (Timeout, "{origin} took too long to answer"),
    "HttpProtocolError": (Unreachable, "{origin} answered what is not HTTP"),
    "HttpResponseIncomplete": (Unreachable, "{origin} ended the response too early"),
    "TlsCertificateError": (Unreachable, "{origin} has a certificate that is not trusted"),
    "TlsProtocolError": (Unreachable, "{origin} broke off the TLS handshake"),
    "TlsAlertReceived": (Unreachable, "{origin} broke off the TLS handshake"),
    "ConnectionLimitReached": (LimitReached, "too many requests are under way at once (limits.http-concurrent)"),
    "HttpRequestBodySize": (LimitReached, "the bodies of requests are larger than limits.http-request-bytes"),
    "HttpResponseBodySize": (LimitReached, "the bodies of responses are larger than limits.http-response-bytes"),
    "HttpRequestUriInvalid": (InvalidRequest, "{url} is no URL for a request"),
    "HttpRequestUriTooLong": (InvalidRequest, "the URL is too long"),
    "HttpRequestMethodInvalid": (InvalidRequest, "{method} is no method of HTTP"),
    "HttpRequestHeaderSectionSize": (InvalidRequest, "the headers of the request are too large"),
    "HttpRequestHeaderSize": (InvalidRequest, "a header of the request is too large"),
}

# Servers that are granted: they were not refused before.
_granted: set[str] = set()


class WasiExchange:
    """A request of this component, and its response."""

    def __init__(self, head: RequestHead) -> None:
        self._head = head
        self._body: Any = None
        self._writer: Any = None
        self._future: Any = None
        self._reader: Any = None
        self._held: list[Any] = []
        request = _request(head)
        if head.has_body:
            self._body = request.body()
            self._writer = self._body.write()
        try:
            self._future = outgoing_handler.handle(request, _options(head.timeout))
        except wit.Err as error:
            raise _error(head, error.value) from None

    def write(self, data: bytes) -> None:
        """Sends a piece of the body. What a server that has answered early does not take is dropped."""
        rest = memoryview(data)
        while rest and self._writer is not None:
            try:
                size = self._writer.check_write()
                if size == 0:
                    with self._writer.subscribe() as writable:
                        writable.block()
                    continue
                self._writer.write(bytes(rest[:size]))
            except wit.Err:
                self._drop_body()
                return
            rest = rest[size:]

    def response(self) -> tuple[int, list[tuple[str, str]]]:
        """Ends the request, and waits for the status and the headers of the response."""
        self._end_body()
        with self._future.subscribe() as answered:
            answered.block()
        answer = self._future.get()
        _drop(self._future)
        self._future = None
        answer = answer.value
        if isinstance(answer, wit.Err):
            raise _error(self._head, answer.value)
        response = answer.value
        _granted.add(self._head.origin)
        with response.headers() as fields:
            headers = [(name, value.decode("latin-1")) for name, value in fields.entries()]
        body = response.consume()
        self._reader = body.stream()
        self._held = [body, response]
        return response.status(), headers

    def read(self, size: int) -> bytes:
        """Returns the next bytes of the response."""
        if self._reader is None:
            return b""
        try:
            return self._reader.blocking_read(size)
        except wit.Err as error:
            failure = error.value
        if isinstance(failure, streams.StreamError_Closed):
            self.close()
            return b""
        code = http.http_error_code(failure.value)
        text = failure.value.to_debug_string()
        _drop(failure.value)
        self.close()
        raise _broken(self._head, text) if code is None else _error(self._head, code)

    def close(self) -> None:
        """Gives everything back to the host, what belongs to something else first."""
        held = [self._writer, self._body, self._future, self._reader, *self._held]
        self._writer = self._body = self._future = self._reader = None
        self._held = []
        for handle in held:
            if handle is not None:
                _drop(handle)

    def __del__(self) -> None:
        # The handles would go in any order, and the host refuses the wrong one.
        self.close()

    def _drop_body(self) -> None:
        for handle in (self._writer, self._body):
            if handle is not None:
                _drop(handle)
        self._writer = self._body = None

    def _end_body(self) -> None:
        if self._body is not None:
            _drop(self._writer)
            body, self._writer, self._body = self._body, None, None
            # If that fails, the response says why, or is there nevertheless.
            with contextlib.suppress(wit.Err):
                http.OutgoingBody.finish(body, None)


def _request(head: RequestHead) -> Any:
    try:
        entries = [(name, value.encode("latin-1")) for name, value in head.headers]
        request = http.OutgoingRequest(http.Fields.from_list(entries))
    except (wit.Err, UnicodeEncodeError):
        raise InvalidRequest("a header of the request has a name or a value that no header can have") from None
    try:
        method = _METHODS.get(head.method)
        request.set_method(method() if method else http.Method_Other(head.method))
        request.set_scheme(_SCHEMES[head.scheme]())
        request.set_authority(head.authority)
        request.set_path_with_query(head.path)
    except wit.Err:
        raise InvalidRequest(f"{head.method} {_exchange.shown(head.url)} is no request") from None
    return request


def _options(timeout: float | None) -> Any:
    if timeout is None:
        return None
    options = http.RequestOptions()
    duration = min(max(int(timeout * _NANOSECONDS), 1), _DURATION_MAX)
    options.set_connect_timeout(duration)
    options.set_first_byte_timeout(duration)
    options.set_between_bytes_timeout(duration)
    return options


def _error(head: RequestHead, code: Any) -> HttpError:
    name = type(code).__name__.removeprefix("ErrorCode_")
    if name == "HttpRequestDenied":
        if head.origin in _granted:
            return LimitReached("the attempt has made as many HTTP requests as it may (limits.http-requests)")
        return _exchange.not_granted(head)
    _granted.add(head.origin)
    if name in _MEANINGS:
        kind, text = _MEANINGS[name]
        return kind(text.format(origin=head.origin, url=_exchange.shown(head.url), method=head.method))
    payload = getattr(code, "value", None)
    return HttpError(f"{head.origin}: {payload if isinstance(payload, str) else name}")


def _broken(head: RequestHead, text: str) -> HttpError:
    """Returns the error of a response that broke off, for which the engine has no code but a text, with a stack below."""
    text = text.partition("\n")[0]
    kind = LimitReached if "exceeds limit" in text else Timeout if "timeout" in text else Unreachable
    return kind(f"{head.origin}: {text}")


def _drop(handle: Any) -> None:
    handle.__exit__(None, None, None)
