"""Makes a component of a handler: a wrapper of componentize-py that packs the handler, and nothing that lies around."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import _slot
from ._packages import PackageError, Packages, packages_of
from ._program import Program, program_of

_OWN = Path(__file__).parent
_NOT_IN_COMPONENTS = ["__main__", "_build", "_manifest", "_packages", "_program", "testing"]
_NOT_PACKED = shutil.ignore_patterns(
    "__pycache__", "*.pyc", "*.wasm", "wit", "platform", *(f"{name}.py" for name in _NOT_IN_COMPONENTS)
)
_ALWAYS = ["wasi:logging/logging@0.1.0-draft", "crash"]
INTERFACES = {
    "send": ["sender"],
    "http": ["wasi:http/outgoing-handler@0.2.0"],
    "keyvalue": [f"wasi:keyvalue/{name}@0.2.0-draft2" for name in ("store", "atomics", "batch")],
    "config": ["wasi:config/store@0.2.0-rc.1"],
}
# The names of modules for interfaces whose own names are not the only ones of their kind.
_MODULE_NAMES = {
    "sandhog:worker/types@0.1.0": ("types", None),
    "wasi:http/types@0.2.0": ("http_types", "http"),
    "wasi:keyvalue/store@0.2.0-draft2": ("keyvalue_store", "keyvalue"),
    "wasi:config/store@0.2.0-rc.1": ("config_store", "config"),
}

_ENTRY = '''\
import sandhog._guest as guest

guest.start({uses!r})

import {module}
guest.preload({late!r})
from sandhog._handler import registered

registered()
guest.remember_sources()


class {name}:
    {function} = staticmethod(guest.{function})
'''
# Of a component whose handler is put into it later.
_FAST_ENTRY = '''\
import sandhog._guest as guest
from sandhog import _slot

guest.start({uses!r})
guest.preload({late!r})
guest.remember_sources()
slot = _slot.empty()
guest.take_sources(slot)


class {name}:
    {function} = staticmethod(guest.{function})
'''
_NAMES = {
    "handler": ("Handler", "handle"),
    "batch-handler": ("BatchHandler", "handle_batch"),
}
_KIND = """\
import sys
sys.path.insert(0, sys.argv[1])
__import__(sys.argv[2])
from sandhog._handler import registered
print(registered()[0])
"""
# How many components are kept for builds in a second.
_PREPARED_MAX = 8


class BuildError(Exception):
    """A mistake of whoever builds: its text says it all."""


@dataclass(frozen=True)
class Built:
    """What was built."""

    kind: str
    """``handler`` or ``batch-handler``."""
    uses: frozenset[str]
    """What it imports of the host and the manifest must grant: ``send``, ``http``, ``keyvalue``, ``config``."""
    queues: frozenset[str]
    """The queues that the sources name where they send."""


def build(
    app: Path,
    out: Path,
    *,
    packages: Iterable[str] = (),
    include: Iterable[Path] = (),
    uses: Iterable[str] = (),
    avoids: Iterable[str] = (),
    fast: bool = False,
) -> Built:
    """Packs a module, the modules beside it that it imports, and the packages that are named, together with Python into a
    component."""
    if not app.is_file():
        raise BuildError(f"{app} is not a file")
    if not app.stem.isidentifier():
        raise BuildError(f"{app.stem} can't be the name of a module: give {app} another one")
    try:
        taken = packages_of(packages)
    except PackageError as error:
        raise BuildError(str(error)) from None
    program = program_of(app, taken.roots)
    _check(app, program, taken)
    used = (program.uses | set(uses)) - set(avoids)
    built = Built(_kind_of(app), frozenset(used), frozenset(program.queues))
    include = list(include)
    slot = _slot_with(app, program) if fast and not include else None
    if slot is None:
        sources = [*_own_sources(app, program), *taken.roots, *taken.facts, *include]
        _make(built, _entry(_ENTRY, built, program.late, app.stem), sources, out.resolve())
    else:
        _write_fast(built, program, taken, slot, out)
    return built


def _make(built: Built, entry: str, sources: Iterable[Path], out: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="sandhog-build-") as temporary:
        folder = Path(temporary)
        packed = folder / "packed"
        packed.mkdir()
        shutil.copytree(_OWN, packed / "sandhog", ignore=_NOT_PACKED)
        for source in sources:
            _copy(source, packed)
        (packed / "sandhog_entry.py").write_text(entry)
        wit = _write_world(folder / "wit", built)
        _componentize(folder, wit, packed, out, built)


def _entry(text: str, built: Built, late: Iterable[str], module: str = "") -> str:
    name, function = _NAMES[built.kind]
    return text.format(module=module, name=name, function=function, uses=sorted(built.uses), late=sorted(late))


def _slot_with(app: Path, program: Program) -> bytes | None:
    """Returns the program's own sources as they are put into a component; ``None`` if they do not fit."""
    folder = app.parent.resolve()
    sources = {file.resolve().relative_to(folder).as_posix(): file.read_text() for file in program.own.values()}
    return _slot.filled(app.stem, sources)


def _write_fast(built: Built, program: Program, taken: Packages, slot: bytes, out: Path) -> None:
    """Puts sources into a component that was made before for programs that import the same."""
    early = sorted(program.imported | program.late)
    entry = _entry(_FAST_ENTRY, built, early)
    packages = [str(place) for place in [*taken.roots, *taken.facts]]
    own = [file.read_bytes() for file in sorted(_OWN.rglob("*")) if file.suffix in (".py", ".wit")]
    made_of = [sys.version.encode(), entry.encode(), *(place.encode() for place in packages), *own]
    name = hashlib.sha256(b"\0".join(made_of)).hexdigest()[:32]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sandhog" / "python"
    prepared = cache / f"{name}.wasm"
    if not prepared.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        for old in sorted(cache.glob("*.wasm"), key=lambda file: file.stat().st_mtime)[: -_PREPARED_MAX + 1]:
            old.unlink(missing_ok=True)
        made = cache / f"{name}.{os.getpid()}.new"
        _make(built, entry, [*taken.roots, *taken.facts], made)
        made.replace(prepared)
    os.utime(prepared)
    out.write_bytes(prepared.read_bytes().replace(_slot.empty(), slot))


def _kind_of(app: Path) -> str:
    """Imports the module as a test would, and asks what it registers. That also finds its mistakes within a second."""
    run = subprocess.run(
        [sys.executable, "-c", _KIND, str(app.parent.resolve()), app.stem], capture_output=True, text=True, check=False
    )
    if run.returncode != 0:
        raise BuildError(f"{app} can't be imported\n{run.stderr.strip()}")
    return run.stdout.split()[-1]


def _check(app: Path, program: Program, taken: Packages) -> None:
    """Refuses what would fail in the component, or only there."""
    for name, file in program.unknown.items():
        if _is_below(file, app.parent.resolve()) and importlib.util.find_spec(name) is not None:
            raise BuildError(f"{file.name} imports {name}, which is not part of the component: add --package {name}")
    for name, importer in program.native.items():
        top = name.split(".")[0]
        needed_by = taken.needed_by.get(top) or importer.split(".")[0]
        subject = top if needed_by == top else f"{needed_by} needs {top}, which"
        raise BuildError(f"{subject} is native code: a component can't load it")


def _own_sources(app: Path, program: Program) -> list[Path]:
    """Returns the module and what lies beside it and is imported, packages as a whole."""
    folder = app.parent.resolve()
    own = [file.resolve() for file in program.modules.values()]
    return sorted({folder / file.relative_to(folder).parts[0] for file in own if _is_below(file, folder)})


def _is_below(file: Path, folder: Path) -> bool:
    return file.is_relative_to(folder) and "site-packages" not in file.relative_to(folder).parts


def _copy(source: Path, folder: Path) -> None:
    if not source.exists():
        raise BuildError(f"{source} does not exist")
    target = folder / source.resolve().name
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"), dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)


def _write_world(folder: Path, built: Built) -> Path:
    shutil.copytree(_OWN / "wit", folder)
    shutil.copytree(_OWN / "platform", folder / "deps")
    imports = [*_ALWAYS, *(name for use in sorted(built.uses) for name in INTERFACES[use])]
    lines = [f"    import {name};" for name in imports]
    world = ["package sandhog:worker@0.1.0;", "world build {", *lines, f"    export {built.kind};", "}", ""]
    (folder / "sandhog-build.wit").write_text("\n".join(world))
    return folder


def _componentize(folder: Path, wit: Path, packed: Path, out: Path, built: Built) -> None:
    # It packs the environment that it finds: here that is an empty one.
    environment = folder / "environment"
    (environment / "lib" / "site-packages").mkdir(parents=True)
    names = [
        f"--import-interface-name={name}={module}"
        for name, (module, use) in _MODULE_NAMES.items()
        if use in {None, *built.uses}
    ]
    arguments = ["-q", "-d", str(wit), "-w", "build", *names, "componentize", "sandhog_entry", "-p", str(packed), "-o", str(out)]
    call = "import sys; from componentize_py import script; sys.exit(script())"
    run = subprocess.run(
        [sys.executable, "-c", call, *arguments],
        cwd=folder,
        env={**os.environ, "VIRTUAL_ENV": str(environment), "RUST_BACKTRACE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise BuildError(_explained(run.stderr.strip() or run.stdout.strip()))


def _explained(text: str) -> str:
    """Returns what a person needs of what componentize-py says."""
    _, found, traceback = text.partition("AssertionError: Traceback")
    if not found:
        return f"componentize-py failed\n{text}"
    traceback = "Traceback" + traceback.partition("\n\nCaused by:")[0]
    return f"the component's Python can't import this:\n{traceback}".replace('"/0/', '"').rstrip()
