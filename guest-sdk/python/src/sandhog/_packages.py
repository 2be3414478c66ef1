"""Packages of this Python environment that a component takes along, with all that they need."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

# What the Python of a component says of itself.
_COMPONENT = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "wasm32",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "wasi",
    "platform_version": "",
    "python_full_version": "3.14.0",
    "python_version": "3.14",
    "sys_platform": "wasi",
}


class PackageError(Exception):
    """A package that can't be taken along: the text says why."""


@dataclass
class Packages:
    """What is taken along."""

    roots: list[Path] = field(default_factory=list)
    """Folders and files, each the module of its name."""
    facts: list[Path] = field(default_factory=list)
    """Folders with what ``importlib.metadata`` knows of them."""
    needed_by: dict[str, str] = field(default_factory=dict)
    """For modules that were not asked for, the package that needs them."""


def names_in(requirements: Path) -> list[str]:
    """Returns the packages that a ``requirements.txt`` names. Options, folders and this package are left out.

    :raises PackageError: if there is no such file.
    """
    try:
        lines = [line.split(" #")[0].strip() for line in requirements.read_text().splitlines()]
    except OSError as error:
        raise PackageError(f"{requirements} can't be read: {error.strerror}") from None
    names = [line for line in lines if line and not line.startswith(("#", "-", ".", "/"))]
    return [name for name in names if _requirement(name).name not in ("sandhog", "componentize-py")]


def packages_of(names: Iterable[str]) -> Packages:
    """Finds packages by the names that they are installed or imported by, such as ``PyYAML`` or ``yaml``, ``httpx[http2]``, and
    all that these require.

    :raises PackageError: if one is not here.
    """
    found = Packages()
    waiting = [(_requirement(name), "") for name in names]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, needed_by = waiting.pop()
        distribution = _distribution(requirement.name)
        if distribution is None:
            _take_module(requirement.name, needed_by, found)
            continue
        _take(distribution, needed_by, found, seen)
        name = distribution.metadata["Name"]
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            needs = [Requirement(text) for text in distribution.requires or []]
            waiting += [(need, name) for need in needs if _applies(need, extra)]
    return found


def _requirement(name: str) -> Requirement:
    try:
        return Requirement(name)
    except InvalidRequirement as error:
        raise PackageError(f"{name!r} is no name of a package: {error}") from None


def _applies(need: Requirement, extra: str) -> bool:
    if need.marker is None:
        return not extra
    environment: dict[str, Any] = {**default_environment(), **_COMPONENT}
    # What is needed without an extra was taken with the package itself.
    with_extra = need.marker.evaluate({**environment, "extra": extra})
    return with_extra and not (extra and need.marker.evaluate({**environment, "extra": ""}))


def _distribution(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        owners = metadata.packages_distributions().get(name)
        return metadata.distribution(owners[0]) if owners else None


def _take(
    distribution: metadata.Distribution, needed_by: str, found: Packages, seen: set[tuple[str, str]]
) -> None:
    name = distribution.metadata["Name"]
    if (name, "") in seen:
        return
    tops = {file.parts[0] for file in distribution.files or [] if file.suffix in (".py", ".so", ".pyd")}
    tops = {top for top in tops if top != ".." and not top.endswith((".dist-info", ".data")) and top != "__pycache__"}
    if not tops:
        owned = metadata.packages_distributions().items()
        for module in (module for module, owners in owned if name in owners):
            _take_module(module, needed_by, found)
    for top in sorted(tops):
        found.roots.append(Path(str(distribution.locate_file(top))))
        if needed_by:
            found.needed_by.setdefault(top.split(".")[0], needed_by)
    facts = getattr(distribution, "_path", None)
    if facts is not None and Path(facts).is_dir():
        found.facts.append(Path(facts))


def _take_module(name: str, needed_by: str, found: Packages) -> None:
    """Takes what is no installed distribution, but can be imported."""
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None:
        need = f"{needed_by} needs {name}, which is not here" if needed_by else f"there is no package {name} here"
        raise PackageError(f"{need}: pip install {canonicalize_name(name)}")
    places = list(spec.submodule_search_locations or [spec.origin or ""])
    found.roots += [Path(place) for place in places if place]
