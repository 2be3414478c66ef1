"""Settings and secrets that the manifest gives to the handler.

::

    # [grant]
    # config = { api = "https://api.example.com", token = { from-file = "/run/secrets/token" } }
    from sandhog import config

    token = config.get("token")

The host reads files and variables when it loads the manifest, and logs no value.
"""

from __future__ import annotations

from . import _host
from ._failure import HostError

__all__ = ["ConfigError", "all", "get"]


class ConfigError(HostError):
    """Why a setting could not be read. A handler that does not catch it fails, and its message is tried again."""


def get(name: str) -> str | None:
    """Returns a setting; ``None`` if the manifest does not have it."""
    return _host.current().setting(name)


def all() -> dict[str, str]:
    """Returns every setting by its name."""
    return _host.current().settings()
