"""Makes a component of a handler: a wrapper of componentize-py that packs the handler, and nothing that lies around."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from modulefinder import ModuleFinder
from pathlib import Path

_OWN = Path(__file__).parent
_NOT_PACKED = shutil.ignore_patterns("__pycache__", "*.pyc", "*.wasm", "wit", "platform", "_build.py", "__main__.py", "testing.py")
_LOGGING = "wasi:logging/logging@0.1.0-draft"

_ENTRY = '''\
import sandhog._guest as guest

guest.start()

import {module}
guest.preload({preload!r})
from sandhog._handler import registered

registered()
guest.remember_sources()


class {name}:
    {function} = staticmethod(guest.{function})
'''
_NAMES = {
    "handler": ("Handler", "handle"),
    "batch-handler": ("BatchHandler", "handle_batch"),
}
_KIND = "import sys; sys.path.insert(0, sys.argv[1]); __import__(sys.argv[2]); from sandhog._handler import registered; print(registered()[0])"


class BuildError(Exception):
    """A mistake of whoever builds: its text says it all."""


def build(app: Path, out: Path, *, packages: Iterable[str] = (), include: Iterable[Path] = ()) -> str:
    """Packs a module, the modules beside it that it imports, and the packages that are named, together with Python into a
    component."""
    if not app.is_file():
        raise BuildError(f"{app} is not a file")
    if not app.stem.isidentifier():
        raise BuildError(f"{app.stem} can't be the name of a module: give {app} another one")
    packages = list(packages)
    kind = _kind_of(app)
    with tempfile.TemporaryDirectory(prefix="sandhog-build-") as temporary:
        folder = Path(temporary)
        packed = folder / "packed"
        packed.mkdir()
        shutil.copytree(_OWN, packed / "sandhog", ignore=_NOT_PACKED)
        modules, preload = _imports_of(app, packages)
        for source in [*modules, *_installed(packages), *include]:
            _copy(source, packed)
        (packed / "sandhog_entry.py").write_text(_entry(app.stem, kind, preload))
        wit = _write_world(folder / "wit", kind, _sends(packed))
        _componentize(folder, wit, packed, out.resolve())
    return kind


def _entry(module: str, kind: str, preload: list[str]) -> str:
    name, function = _NAMES[kind]
    return _ENTRY.format(module=module, name=name, function=function, preload=preload)


def _kind_of(app: Path) -> str:
    """Imports the module as a test would, and asks what it registers. That also finds its mistakes within a second."""
    run = subprocess.run(
        [sys.executable, "-c", _KIND, str(app.parent.resolve()), app.stem], capture_output=True, text=True, check=False
    )
    if run.returncode != 0:
        raise BuildError(f"{app} can't be imported\n{run.stderr.strip()}")
    return run.stdout.split()[-1]


def _imports_of(app: Path, packages: list[str]) -> tuple[list[Path], list[str]]:
    """Returns the module and those beside it that it imports, from wherever in it, and the names of all that they import."""
    folder = app.parent.resolve()
    finder = ModuleFinder(path=[str(folder)], excludes=["sandhog"])
    finder.run_script(str(app.resolve()))
    names = set(finder.badmodules) - {"sandhog"}
    standard = {name for name in names if name.split(".")[0] in sys.stdlib_module_names}
    for name in sorted({name.split(".")[0] for name in names - standard} - {"sandhog", *packages}):
        if importlib.util.find_spec(name) is not None:
            raise BuildError(f"{app} imports {name}, which is not part of the component: add --package {name}")
    found = {app.resolve()}
    own = set()
    for name, module in finder.modules.items():
        file = getattr(module, "__file__", None)
        if name != "__main__" and file:
            relative = Path(file).resolve().relative_to(folder)
            found.add(folder / relative.parts[0])
            own.add(name)
    return sorted(found), sorted(standard | own | set(packages))


def _installed(packages: list[str]) -> list[Path]:
    """Returns where packages of this environment lie."""
    found = []
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise BuildError(f"there is no package {name} here: pip install it, under the name that the code imports")
        origin = Path(spec.origin)
        if origin.suffix != ".py":
            raise BuildError(f"{name} is not pure Python: a component can't load {origin.name}")
        found.append(origin.parent if spec.submodule_search_locations else origin)
    return found


def _copy(source: Path, folder: Path) -> None:
    if not source.exists():
        raise BuildError(f"{source} does not exist")
    target = folder / source.resolve().name
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"), dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)


def _sends(packed: Path) -> bool:
    """Whether anything but this package speaks of sending. If not, the component needs no grant for it."""
    files = (file for file in packed.rglob("*.py") if packed / "sandhog" not in file.parents)
    return any(re.search(rb"\bsend(_many)?\b", file.read_bytes()) for file in files)


def _write_world(folder: Path, kind: str, sends: bool) -> Path:
    shutil.copytree(_OWN / "wit", folder)
    shutil.copytree(_OWN / "platform", folder / "deps")
    imports = [_LOGGING, *(["sender"] if sends else [])]
    lines = [f"    import {name};" for name in imports]
    world = ["package sandhog:worker@0.1.0;", "world build {", *lines, f"    export {kind};", "}", ""]
    (folder / "sandhog-build.wit").write_text("\n".join(world))
    return folder


def _componentize(folder: Path, wit: Path, packed: Path, out: Path) -> None:
    # It packs the environment that it finds: here that is an empty one.
    environment = folder / "environment"
    (environment / "lib" / "site-packages").mkdir(parents=True)
    arguments = ["-q", "-d", str(wit), "-w", "build", "componentize", "sandhog_entry", "-p", str(packed), "-o", str(out)]
    call = "import sys; from componentize_py import script; sys.exit(script())"
    run = subprocess.run(
        [sys.executable, "-c", call, *arguments],
        cwd=folder,
        env={**os.environ, "VIRTUAL_ENV": str(environment)},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise BuildError(f"componentize-py failed\n{run.stderr.strip() or run.stdout.strip()}")
