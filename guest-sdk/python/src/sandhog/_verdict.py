"""What a handler's end means for its message. The host and tests go by the same rules."""

from __future__ import annotations

from typing import Any

from ._failure import Failure, HostError
from ._message import Message


def failure_of(value: Any) -> Failure | None:
    """Returns the failure that an exception or a result stands for; ``None`` if there is none."""
    if isinstance(value, Failure):
        return value
    return value.as_failure() if isinstance(value, HostError) else None


def run(function: Any, message: Message) -> Failure | None:
    """Calls a handler. A failure that is returned in place of raised does not pass as success.

    :raises Exception: if the handler crashed.
    """
    try:
        return failure_of(function(message))
    except (Failure, HostError) as error:
        return failure_of(error)


def run_batch(function: Any, messages: list[Message]) -> list[Failure | None]:
    """Calls a batch handler, and returns one result per message.

    :raises Exception: if the handler crashed, or did not return such results.
    """
    try:
        results = list(function(messages))
    except (Failure, HostError) as error:
        return [failure_of(error)] * len(messages)
    if len(results) != len(messages):
        raise TypeError(f"the batch handler returned {len(results)} results for {len(messages)} messages")
    for index, result in enumerate(results):
        if result is not None and failure_of(result) is None:
            raise TypeError(f"result {index} of the batch handler is neither None nor a failure: {result!r}")
    return [failure_of(result) for result in results]
