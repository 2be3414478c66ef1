"""The command line: ``python -m sandhog build app.py -o NAME.wasm``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ._build import BuildError, build


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
        help="take a package of this Python environment along (pure Python only); may be repeated",
    )
    command.add_argument(
        "--include",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="put a file or folder beside the module, to be read while the component is built; may be repeated",
    )
    options = parser.parse_args()
    out = options.out or Path(f"{options.app.stem}.wasm")
    try:
        kind = build(options.app, out, packages=options.package, include=options.include)
    except BuildError as error:
        print(f"sandhog: {error}", file=sys.stderr)
        return 1
    print(f"{out}: a {kind} of {out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
