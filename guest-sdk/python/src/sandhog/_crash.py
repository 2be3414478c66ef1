"""What is said of an exception that breaks a handler."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePath

from ._failure import without_secrets

_OWN = PurePath(__file__).parent
_FRAMES_MAX = 40


def reason_of(error: BaseException) -> str:
    """Returns the type and the text of an exception, and those of its causes."""
    return "; caused by ".join(_said(one) for one in _chain(error))


def stack_of(error: BaseException) -> str:
    """Returns where an exception came from, innermost first, and where each of its causes did."""
    lines: list[str] = []
    for one in _chain(error):
        if one is not error:
            lines.append(f"caused by {_said(one)}")
        lines += _frames(one)
    return "\n".join(lines)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__


def _said(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = without_secrets(str(error))
    except Exception:
        text = "(its text can't be had)"
    return f"{name}: {text}" if text else name


def _frames(error: BaseException) -> list[str]:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if PurePath(frame.filename).parent != _OWN]
    lines = []
    for line, same in groupby(_line(frame) for frame in reversed(frames)):
        count = len(list(same))
        lines.append(line if count == 1 else f"{line} ({count} times)")
    left_out = len(lines) - _FRAMES_MAX
    if left_out <= 0:
        return lines
    half = _FRAMES_MAX // 2
    return [*lines[:half], f"... {left_out} more ...", *lines[-half:]]


def _line(frame: traceback.FrameSummary) -> str:
    file = PurePath(frame.filename)
    shown = file.relative_to(_OWN.parent) if file.is_relative_to(_OWN.parent) else file
    line = f"at {frame.name} ({shown}:{frame.lineno})"
    return f"{line}: {frame.line}" if frame.line else line
