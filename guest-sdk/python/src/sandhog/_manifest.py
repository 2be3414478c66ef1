"""What a component needs of its manifest, and what the manifest beside its source has."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

# What is used, the key under [grant], and a value to begin with.
_GRANTS = {
    "send": ("send", '["QUEUE"]'),
    "http": ("http", '["https://api.example.com"]'),
    "keyvalue": ("keyvalue", "true"),
    "config": ("config", '{ KEY = "VALUE" }'),
}


def lines_for(uses: Iterable[str], queues: Iterable[str] = ()) -> list[str]:
    """Returns the lines under ``[grant]`` that a component needs to be loaded."""
    lines = []
    for use in (use for use in _GRANTS if use in set(uses)):
        key, value = _GRANTS[use]
        if use == "send" and queues:
            value = "[" + ", ".join(f'"{queue}"' for queue in sorted(queues)) + "]"
        lines.append(f"{key} = {value}")
    return lines


def remarks_on(manifest: Path, uses: set[str], queues: set[str]) -> list[str]:
    """Compares a manifest with what a component uses, and returns what does not fit, for people."""
    try:
        import tomllib
    except ImportError:  # Python 3.10: the host says the same when it loads the component.
        return []
    try:
        grant = tomllib.loads(manifest.read_text()).get("grant", {})
    except ValueError as error:
        return [f"{manifest.name} can't be read: {error}"]
    remarks = []
    # An empty list or table is a grant that reaches nothing; `false` is none.
    missing = {use for use in uses if grant.get(_GRANTS[use][0], False) is False}
    if missing:
        lines = "\n    ".join(["[grant]", *lines_for(missing, queues)])
        remarks.append(f"{manifest.name} lacks, without which the host refuses the component:\n    {lines}")
    granted = grant.get("send", [])
    if "send" in uses - missing:
        for queue in sorted(queues - set(granted)):
            remarks.append(f'{manifest.name} does not grant the queue {queue}: add "{queue}" to send in [grant]')
    idle = [use for use in _GRANTS if use not in uses and grant.get(_GRANTS[use][0])]
    if idle:
        keys = " and ".join(_GRANTS[use][0] for use in idle)
        remarks.append(f"{manifest.name} grants {keys}, which the handler does not use")
    return remarks
