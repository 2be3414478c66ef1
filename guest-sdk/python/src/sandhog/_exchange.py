"""One request over HTTP and its response, as a host carries them: what every client in a component stands on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, Union
from urllib.parse import quote, urlsplit

from ._failure import HostError

HeaderInput = Union[Mapping[str, str], Iterable[tuple[str, str]]]
"""Names and values of headers. A list can have a name twice."""

# What stays as it is in a path with its query: all that has a meaning there, and what is quoted already.
_SAFE = "!#$%&'()*+,/:;=?@[]~"
# The host sets these by itself, and refuses them from a guest.
_HOST_SETS = {
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
}


class HttpError(HostError, OSError):
    """Why a request has no response, or not all of it: one of the subclasses, or something else that went wrong on the way.

    It is an :class:`OSError`, so that ``urllib``, ``requests`` and ``httpx`` treat it as theirs. A handler that does not catch
    it fails with its text, and the message is tried again.
    """


class NotGranted(HttpError, PermissionError):
    """The manifest does not grant the server; the text has the line to add."""


class Timeout(HttpError, TimeoutError):
    """The server took longer than the request's ``timeout``."""


class Unreachable(HttpError, ConnectionError):
    """There is no such server, it refused or broke the connection, or it failed to prove who it is."""


class LimitReached(HttpError):
    """The attempt has made as many requests, or has moved as many bytes, as it may (``limits.http-*`` of the manifest)."""


class InvalidRequest(HttpError, ValueError):
    """The request itself is not one that can be sent: its URL, its method or a header."""


class Headers(Mapping[str, str]):
    """Headers by their names, in which the case of letters does not matter. The values of one that comes several times are
    joined by commas."""

    def __init__(self, entries: HeaderInput = ()) -> None:
        pairs = entries.items() if isinstance(entries, Mapping) else entries
        self.entries = [(str(name), str(value)) for name, value in pairs]
        """Each header as it came, in order."""

    def all(self, name: str) -> list[str]:
        """Returns every value of a header, such as ``set-cookie``."""
        return [value for other, value in self.entries if other.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        values = self.all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower() for name, _ in self.entries))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self.entries})

    def __repr__(self) -> str:
        return f"Headers({self.entries!r})"


@dataclass(frozen=True)
class RequestHead:
    """What is known of a request before its body."""

    method: str
    scheme: str
    authority: str
    """Host and port."""
    path: str
    """With the query."""
    headers: list[tuple[str, str]]
    """Without those that the host sets."""
    has_body: bool
    timeout: float | None
    """The most seconds until the response begins, and between two pieces of it. ``None``: until the attempt ends."""

    @property
    def origin(self) -> str:
        """The server, as a manifest grants it."""
        return f"{self.scheme}://{self.authority}"

    @property
    def url(self) -> str:
        """The whole address."""
        return self.origin + self.path


class Exchange(Protocol):
    """A request under way: its body is written, then its response is read."""

    def write(self, data: bytes) -> None:
        """Sends a piece of the request's body."""

    def response(self) -> tuple[int, list[tuple[str, str]]]:
        """Ends the request, and waits for the status and the headers of the response."""

    def read(self, size: int) -> bytes:
        """Returns up to so many bytes of the response's body, and nothing at its end."""

    def close(self) -> None:
        """Gives up what was not read."""


def shown(url: str) -> str:
    """Returns a URL without its query and its user, which are often secret: the text of an error is in logs and dead letters."""
    front, slashes, rest = re.split("[?#]", url, maxsplit=1)[0].rpartition("//")
    server, slash, path = rest.partition("/")
    return front + slashes + server.rpartition("@")[2] + slash + path


def head_of(method: str, url: str, headers: HeaderInput, *, has_body: bool, timeout: float | None) -> RequestHead:
    """Makes the head of a request to a URL.

    :raises InvalidRequest: if there is no such request.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        host = host if host is None or host.isascii() else host.encode("idna").decode()
    except ValueError as error:
        raise InvalidRequest(f"{shown(url)!r} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidRequest(f"{shown(url)!r} is no URL of http or https")
    if parts.username is not None:
        raise InvalidRequest("a URL can't have a name and a password: put them into the header authorization")
    authority = f"[{host}]" if ":" in host else host
    if port is not None and port != {"http": 80, "https": 443}[parts.scheme]:
        authority += f":{port}"
    path = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
    return RequestHead(method.upper(), parts.scheme, authority, path, _sendable(headers), has_body, timeout)


def _sendable(headers: HeaderInput) -> list[tuple[str, str]]:
    return [(name, value) for name, value in Headers(headers).entries if name.lower() not in _HOST_SETS]


def not_granted(head: RequestHead) -> NotGranted:
    """Returns the error for a server that the manifest does not grant."""
    return NotGranted(f'{head.origin} is not granted: to grant it, add "{head.origin}" to http in [grant] of the manifest')
