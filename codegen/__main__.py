"""`python -m codegen [SOURCE] [--out DIR] [--overlays DIR] [--check]`, or `--compare OLD NEW`.

Exit 0: done, or nothing differs. 1: --check found that the folder is not what the source makes, or --compare a
change that breaks. 2: an input is at fault; one line says where, and nothing was written.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from codegen.compare import changes
from codegen.document import Document
from codegen.errors import CodegenError
from codegen.extract import extract
from codegen.fetch import read_source
from codegen.folder import differences, write
from codegen.generate import REGENERATE, digest_of, generate
from codegen.overlay import apply_overlays
from codegen.validate import validate

ROOT = Path(__file__).parent.parent


def _from_here(path: Path) -> str:
    """As short as it can be said: relative to the working directory where it lies below."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m codegen", description=(__doc__ or "").split("\n\n")[1])
    page = _from_here(ROOT / "codegen" / "spec" / "place-a-new-order.md")
    out = Path(_from_here(ROOT / "generated"))
    overlays = Path(_from_here(ROOT / "codegen" / "overlays"))
    parser.add_argument("source", nargs="?", default=page, help="page (.md), YAML or JSON: a file or an address")
    parser.add_argument("--out", type=Path, default=out, metavar="DIR", help="the folder to write")
    parser.add_argument("--overlays", type=Path, default=overlays, metavar="DIR", help="the overlays to apply")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if anything would change")
    parser.add_argument("--compare", nargs=2, metavar=("OLD", "NEW"), help="say what changed between two sources")
    return parser.parse_args(argv)


def _read(source: str) -> tuple[Document, str]:
    raw = read_source(source)
    document = extract(source, raw)
    validate(document)
    return document, digest_of(raw)


def main(argv: list[str]) -> int:
    """Runs it; returns the exit code."""
    arguments = _arguments(argv)
    try:
        if arguments.compare:
            return _compare(*arguments.compare)
        document, digest = _read(arguments.source)
        files = generate(apply_overlays(document, arguments.overlays), digest)
        if not arguments.check:
            write(files, arguments.out)
            return 0
    except CodegenError as error:
        print(error.text, file=sys.stderr)
        return 2
    found = differences(files, arguments.out)
    for line in found:
        print(line, file=sys.stderr)
    if found:
        given = [word for word in argv if word != "--check"]
        command = shlex.join([".venv-codegen/bin/python", "-m", "codegen", *given]) if given else REGENERATE
        print(f"mend it with: {command}", file=sys.stderr)
    return 1 if found else 0


def _compare(old: str, new: str) -> int:
    found = changes(_read(old)[0].data, _read(new)[0].data)
    for change in found:
        print(f"{'breaking' if change.breaking else 'other'}: {change.text}")
    return 1 if any(change.breaking for change in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
