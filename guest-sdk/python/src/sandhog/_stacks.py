"""Makes the usual clients go through the host: ``http.client`` with all that stands on it, ``urllib3`` with ``requests``, and
``httpx``.

In a test they go through its host while a handler runs, and their own way otherwise.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import logging
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from . import _host

_STACKS: dict[str, Callable[[ModuleType], None]] = {}


def install() -> None:
    """Adapts the clients that are loaded, and those that will be."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder())
    for name, adapt in _STACKS.items():
        if name in sys.modules:
            adapt(sys.modules[name])


class _Finder(importlib.abc.MetaPathFinder):
    """Adapts a client when it is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _STACKS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader: Any = spec and spec.loader
        if loader:
            load = loader.exec_module
            loader.exec_module = lambda module: (load(module), _STACKS[name](module))
        return spec


def _adapts(name: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    def register(adapt: Callable[[Any], None]) -> Callable[[Any], None]:
        _STACKS[name] = adapt
        return adapt

    return register


def _through_host(owner: Any, name: str, replacement: Callable[..., Any]) -> None:
    """Replaces a method for as long as there is a host."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def method(self: Any, *arguments: Any, **named: Any) -> Any:
        return (replacement if _host.is_there() else original)(self, *arguments, **named)

    setattr(owner, name, method)


@_adapts("http.client")
def _http_client(module: Any) -> None:
    from ._wire import Wire, WireResponse

    def connect(scheme: str) -> Callable[[Any], None]:
        def connect(self: Any) -> None:
            if self._tunnel_host:
                raise OSError("a component reaches servers itself, and not through a proxy")
            self.sock = Wire(scheme, self.host, self.port, self.timeout)
            self.response_class = WireResponse

        return connect

    _through_host(module.HTTPConnection, "connect", connect("http"))
    _through_host(module.HTTPSConnection, "connect", connect("https"))


@_adapts("urllib3.connection")
def _urllib3(module: Any) -> None:
    from ._wire import Wire, WireResponse

    def connect(scheme: str) -> Callable[[Any], None]:
        def connect(self: Any) -> None:
            self.sock = Wire(scheme, self._dns_host, self.port, self.timeout)
            self.response_class = WireResponse
            # The host verifies every certificate.
            self.is_verified = True

        return connect

    _through_host(module.HTTPConnection, "connect", connect("http"))
    _through_host(module.HTTPSConnection, "connect", connect("https"))


@_adapts("requests.adapters")
def _requests(module: Any) -> None:
    # It looks for a file of certificates, which a component does not have.
    _through_host(module.HTTPAdapter, "cert_verify", lambda *_, **__: None)


@_adapts("httpx._transports.default")
def _httpx(module: Any) -> None:
    from ._exchange import HttpError, Timeout, head_of

    # It tells of every request with its URL, which can have a secret in it, to whoever asks for no more than the usual.
    logging.getLogger("httpx").setLevel(logging.WARNING)

    class Body(module.SyncByteStream):  # type: ignore[misc]
        """The body of a response."""

        def __init__(self, exchange: Any) -> None:
            self._exchange = exchange

        def __iter__(self) -> Any:
            while piece := _as_httpx(module.ReadError, self._exchange.read, 65_536):
                yield piece

        def close(self) -> None:
            self._exchange.close()

    def _as_httpx(kind: Any, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Timeout as error:
            raise module.ReadTimeout(str(error)) from error
        except HttpError as error:
            raise kind(str(error)) from error

    def handle_request(self: Any, request: Any) -> Any:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        has_body = "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"
        timeout = request.extensions.get("timeout", {}).get("read")
        head = head_of(request.method, str(request.url), headers, has_body=has_body, timeout=timeout)
        exchange = _as_httpx(module.ConnectError, _host.current().exchange, head)
        for piece in request.stream if has_body else ():
            _as_httpx(module.WriteError, exchange.write, piece)
        status, received = _as_httpx(module.ConnectError, exchange.response)
        return module.Response(status, headers=received, stream=Body(exchange))

    _through_host(module.HTTPTransport, "__init__", lambda *_, **__: None)
    _through_host(module.HTTPTransport, "handle_request", handle_request)
    _through_host(module.HTTPTransport, "__enter__", lambda self: self)
    _through_host(module.HTTPTransport, "__exit__", lambda *_: None)
    _through_host(module.HTTPTransport, "close", lambda _: None)
