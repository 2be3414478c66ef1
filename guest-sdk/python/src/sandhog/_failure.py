"""Why a message was not handled: what a handler raises."""

from __future__ import annotations

import math
import re
from datetime import timedelta

_DELAY_SECONDS_MAX = 43_200
_USER = re.compile(r"(\b[a-z]+://)[^\s/?#'\"]*@", re.IGNORECASE)
# A URL, or a part of one as urllib3 and InvalidRequest have it.
_QUERY = re.compile(r"((?:\bhttps?://|\burl: /)[^\s?#'\"<>]*)[?#][^\s'\"<>]*", re.IGNORECASE)


def seconds_of(delay: float | timedelta) -> int:
    """Returns whole seconds, a fraction rounded up, so that a short delay does not become none."""
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if not seconds >= 0:
        raise ValueError(f"a delay of {seconds} seconds is not 0 to {_DELAY_SECONDS_MAX}")
    return _DELAY_SECONDS_MAX + 1 if math.isinf(seconds) else math.ceil(seconds)


def without_secrets(text: str) -> str:
    """Returns the text of an error without the queries and the users of the URLs in it: reasons are in logs and dead letters."""
    return _QUERY.sub(r"\1", _USER.sub(r"\1", text))


class Failure(Exception):
    """Why a message was not handled: one of :class:`Retry`, :class:`RetryAfter` and :class:`Reject`.

    The reason is for people: it is logged, and kept with a dead letter. With ``raise Retry("no answer") from error``, the text
    of the error is added to it. What the handler sent is dropped.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)

    @property
    def reason(self) -> str:
        """Why, for people."""
        reason = str(self)
        return reason if self.__cause__ is None else f"{reason}: {without_secrets(str(self.__cause__))}"


class HostError(Exception):
    """What the host did not do for a handler. A handler that does not catch it fails with its text."""

    def as_failure(self) -> Failure:
        """Returns the failure that fits."""
        return Retry(str(self))


class Retry(Failure):
    """Something that may pass: the message becomes visible again after a growing delay, up to the queue's limit of receives."""


class RetryAfter(Failure):
    """As :class:`Retry`, but after a delay of the handler's choice.

    :param delay: Seconds or a :class:`~datetime.timedelta`, 0 to 12 hours; a longer one counts as 12 hours, and a fraction of
        a second is rounded up.
    """

    def __init__(self, reason: str, delay: float | timedelta) -> None:
        super().__init__(reason)
        self.seconds = min(seconds_of(delay), _DELAY_SECONDS_MAX)


class Reject(Failure):
    """Something that will never pass: the message goes to the dead-letter queue at once."""
