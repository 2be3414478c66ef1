"""What a program is made of, read from its sources: the modules that it imports, and what of the host it uses."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

# Whoever imports one of these makes requests over HTTP. What else of the standard library imports them seldom does.
_HTTP_MODULES = {"http.client", "urllib.request", "urllib.robotparser", "xmlrpc.client", "urllib3", "requests", "httpx"}
# What a client needs to reach a server by itself, and does not where requests go through the host.
_REPLACED = {"httpx": {"anyio", "asyncio", "certifi", "httpcore"}}
# What is in every component.
_COMPONENT = {"sandhog", "wit_world", "componentize_py_types", "componentize_py_async_support", "poll_loop"}
_USES = {"send": "send", "send_many": "send", "http": "http", "keyvalue": "keyvalue", "config": "config"}


@dataclass
class Program:
    """The modules that a program reaches, from wherever in it."""

    modules: dict[str, Path] = field(default_factory=dict)
    """Those with a source, the program's own and those of its packages."""
    own: dict[str, Path] = field(default_factory=dict)
    """Those that are of no package."""
    imported: set[str] = field(default_factory=set)
    """The names of all modules that its own ones import."""
    late: set[str] = field(default_factory=set)
    """The names of all modules that are imported inside of functions."""
    uses: set[str] = field(default_factory=set)
    """What it uses of the host: ``send``, ``http``, ``keyvalue``, ``config``."""
    queues: set[str] = field(default_factory=set)
    """The queues that it names where it sends."""
    unknown: dict[str, Path] = field(default_factory=dict)
    """Modules that are neither its own, nor of its packages, nor of the standard library, and where they are imported."""
    native: dict[str, str] = field(default_factory=dict)
    """Modules in native code that it can't do without, and the modules that import them."""


@dataclass(frozen=True)
class _Import:
    name: str
    late: bool
    guarded: bool
    """Whether the program goes on without it."""


def program_of(app: Path, roots: Iterable[Path]) -> Program:
    """Follows the imports of a module through its folder and through packages.

    :param roots: The folders and files of the packages.
    """
    places = {root.name.removesuffix(".py"): root for root in roots}
    program = Program()
    waiting = [(app.stem, app.resolve(), False)]
    seen: dict[str, bool] = {}
    while waiting:
        name, file, guarded = waiting.pop()
        # A module that can't be done without counts, wherever it is imported besides.
        if not seen.get(name, True) or (name in seen and guarded):
            continue
        seen[name] = guarded
        program.modules[name] = file
        is_own = name.split(".")[0] not in places
        if is_own:
            program.own[name] = file
        for found in _read(name, file, program):
            if is_own:
                program.imported.add(found.name)
            if found.late:
                program.late.add(found.name)
            source = _source_of(found.name, app.parent.resolve(), places)
            top = found.name.split(".")[0]
            optional = guarded or found.guarded or found.late
            if isinstance(source, Path):
                waiting.append((found.name, source, optional))
            elif source is not None and not optional:
                program.native[found.name] = name
            elif _is_unknown(top, app.parent.resolve(), places):
                program.unknown.setdefault(top, file)
    return program


def _is_unknown(top: str, folder: Path, places: dict[str, Path]) -> bool:
    if top in places or top in sys.stdlib_module_names or top in _COMPONENT:
        return False
    return _source_of(top, folder, places) is None


def _source_of(name: str, folder: Path, places: dict[str, Path]) -> Path | str | None:
    """Returns the source of a module, ``"native"`` if it has none, ``None`` if it is not there."""
    top, *rest = name.split(".")
    place = places.get(top, folder / top)
    here = place.with_suffix("") if place.suffix == ".py" else place
    here = here.joinpath(*rest)
    for file in (here / "__init__.py", here.with_name(here.name + ".py")):
        if file.is_file():
            return file
    native = (here.with_name(here.name + suffix) for suffix in EXTENSION_SUFFIXES)
    return "native" if any(file.is_file() for file in native) else None


def _read(name: str, file: Path, program: Program) -> Iterator[_Import]:
    source = file.read_bytes()
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return  # It says so itself when it is imported.
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    reader = _Reader(package, speaks_of_host=b"sandhog" in source)
    reader.visit(tree)
    program.uses |= reader.uses
    program.queues |= reader.queues
    replaced = _REPLACED.get(name.split(".")[0], set())
    for found in reader.imports:
        if found.late and found.name.split(".")[0] in replaced:
            continue
        if found.name in _HTTP_MODULES:
            program.uses.add("http")
        yield found


class _Reader(ast.NodeVisitor):
    """Collects what one module imports and uses."""

    def __init__(self, package: str, *, speaks_of_host: bool) -> None:
        self.imports: list[_Import] = []
        self.uses: set[str] = set()
        self.queues: set[str] = set()
        self._package = package
        self._speaks_of_host = speaks_of_host
        self._sandhog: set[str] = set()
        self._functions = 0
        self._guards = 0
        self._nothing = 0

    def visit(self, node: ast.AST) -> None:
        # Expressions are most of a file, tables above all, and import nothing.
        if self._speaks_of_host or not isinstance(node, ast.expr):
            super().visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._imports(alias.name)
            if alias.name.split(".")[0] == "sandhog":
                self._sandhog.add(alias.asname or "sandhog")
                self._uses(alias.name.partition(".")[2])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            parents = self._package.split(".")
            base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
        self._imports(base)
        for alias in node.names:
            # What is imported from a package can be a module of it.
            self._imports(f"{base}.{alias.name}", certain=False)
            if base == "sandhog":
                self._uses("send" if alias.name == "*" else alias.name)
        if base.startswith("sandhog."):
            self._uses(base.removeprefix("sandhog."))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name) and node.value.id in self._sandhog:
            self._uses(node.attr)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        queue = node.args[0] if node.args else None
        if _USES.get(name) == "send" and isinstance(queue, ast.Constant) and isinstance(queue.value, str):
            self.queues.add(queue.value)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" in ast.dump(node.test):
            for statement in node.orelse:
                self.visit(statement)
        else:
            self._within("_guards", *node.body)
            # Where the condition asks for the system or the version, one of the two is not for here.
            is_either = any(isinstance(part, ast.Name) and part.id in ("sys", "os", "platform") for part in ast.walk(node.test))
            self._within("_guards" if is_either else "_nothing", *node.orelse)

    def visit_Try(self, node: ast.Try) -> None:
        goes_on = any(not isinstance(handler.body[-1], ast.Raise) for handler in node.handlers)
        self._within("_guards" if goes_on else "_nothing", *node.body)
        self._within("_guards", *node.handlers, *node.orelse, *node.finalbody)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._within("_functions", *node.decorator_list, *node.body)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._within("_functions", *node.decorator_list, *node.body)

    def _within(self, what: str, *nodes: ast.AST) -> None:
        setattr(self, what, getattr(self, what) + 1)
        for node in nodes:
            self.visit(node)
        setattr(self, what, getattr(self, what) - 1)

    def _imports(self, name: str, *, certain: bool = True) -> None:
        parts = name.split(".")
        for length in range(1 if certain else len(parts), len(parts) + 1):
            found = ".".join(parts[:length])
            if found:
                self.imports.append(_Import(found, self._functions > 0, self._guards > 0))

    def _uses(self, name: str) -> None:
        if name.split(".")[0] in _USES:
            self.uses.add(_USES[name.split(".")[0]])
