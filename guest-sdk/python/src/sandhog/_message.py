"""One delivery of a message, as a handler receives it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ._attribute import AttributeValue
from ._failure import Reject


@dataclass(frozen=True)
class Message:
    """One delivery of a message to a handler. Tests make one with :func:`sandhog.testing.message`."""

    id: str
    """The id that the queue gave the message when it was sent. It stays the same across retries, so it is the key to use for
    idempotency."""
    body: bytes
    """Any bytes, none included, up to 1 MiB. Nothing guarantees that it is text."""
    attributes: dict[str, AttributeValue]
    """What the sender attached, in the sender's order."""
    queue: str
    """The name of the queue that the message was received from."""
    receive_count: int
    """How many times the message has been received, this time included: 1 the first time."""
    sent_at: datetime
    """When the message was sent, in UTC."""
    group_id: str | None
    """The message group. Messages of one group are handled one after another, in the order sent."""

    def text(self) -> str:
        """Reads the body as UTF-8 text.

        :raises Reject: if it is not, with the place where the text ends.
        """
        try:
            return self.body.decode()
        except UnicodeDecodeError as error:
            raise Reject(f"the body is not text: invalid UTF-8 at byte {error.start}") from None

    def json(self) -> Any:
        """Reads the body as JSON.

        :raises Reject: if it is not: the same bytes will not become valid by trying again. Use :func:`json.loads` on
            :meth:`text` to decide otherwise.
        """
        try:
            return json.loads(self.text())
        except (json.JSONDecodeError, RecursionError) as error:
            raise Reject(f"the body is not JSON: {error}") from None

    def attribute(self, name: str) -> AttributeValue | None:
        """Returns the attribute of this name, which is case-sensitive."""
        return self.attributes.get(name)
