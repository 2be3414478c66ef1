"""The command line: ``python -m sandhog build app.py -o NAME.wasm``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ._build import INTERFACES, BuildError, Built, build
from ._manifest import lines_for, remarks_on
from ._packages import PackageError, names_in


def main() -> int:
    """Runs the command line, and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sandhog", description="Tools for sandhog handlers in Python.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("build", help="make a component of a handler", description=build.__doc__)
    command.add_argument("app", type=Path, help="the module with the handler, such as app.py")
    command.add_argument("-o", "--out", type=Path, help="the component [default: the module's name with .wasm, here]")
    command.add_argument(
        "--package",
        action="append",
        default=[],
        metavar="NAME",
        help="take a package of this Python environment along, and all that it needs (pure Python only); may be repeated",
    )
    command.add_argument(
        "--requirements",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="take the packages along that a requirements.txt names; may be repeated",
    )
    command.add_argument(
        "--include",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="put a file or folder beside the module, to be read while the component is built; may be repeated",
    )
    command.add_argument(
        "--with",
        dest="uses",
        action="extend",
        default=[],
        type=_names,
        metavar="NAMES",
        help=f"import what the build does not see that the handler uses: {', '.join(INTERFACES)}",
    )
    command.add_argument(
        "--without",
        dest="avoids",
        action="extend",
        default=[],
        type=_names,
        metavar="NAMES",
        help="leave out what a package could use and the handler does not",
    )
    command.add_argument(
        "--fast",
        action="store_true",
        help="while you write a handler: a build in a second after the first, whose handler is imported at every message",
    )
    options = parser.parse_args()
    out = options.out or Path(f"{options.app.stem}.wasm")
    try:
        built = build(
            options.app,
            out,
            packages=[*options.package, *(name for file in options.requirements for name in names_in(file))],
            include=options.include,
            uses=options.uses,
            avoids=options.avoids,
            fast=options.fast,
        )
    except (BuildError, PackageError) as error:
        print(f"sandhog: {error}", file=sys.stderr)
        return 1
    print(f"{out}: a {built.kind} of {out.stat().st_size / 1e6:.1f} MB")
    _print_needs(options.app, out, built)
    return 0


def _print_needs(app: Path, out: Path, built: Built) -> None:
    manifests = [folder / f"{out.stem}.toml" for folder in (out.parent, app.parent)]
    manifest = next((file for file in manifests if file.is_file()), None)
    lines = lines_for(built.uses, built.queues)
    if manifest is not None:
        for remark in remarks_on(manifest, set(built.uses), set(built.queues)):
            print(f"sandhog: {remark}", file=sys.stderr)
    elif lines:
        print("\n    ".join([f"its manifest, {out.stem}.toml, must have:", "[grant]", *lines]))


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in INTERFACES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(INTERFACES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
