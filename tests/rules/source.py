"""What the rules read: the project's files, as text and as syntax trees.

A rule is a function from sources to complaints, one line each, that say what is wrong, where, and why it matters.
Each rule is shown twice in its file: on bad samples, which it must refuse, and on the project.
"""

import ast
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import dedent
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Source:
    """One file. `path` is relative to the project, with slashes."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=self.path)

    def at(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


def sample(path: str, text: str) -> Source:
    """A made-up file, for showing that a rule bites."""
    return Source(path, dedent(text))


def python(*folders: str) -> list[Source]:
    """The hand-written Python files under these folders, in a stable order."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return [Source(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in sorted(found)]


def committed() -> list[Source]:
    """Every text file that is committed, or would be with `git add .`."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return list(_texts(sorted({name for name in listing.split("\0") if name})))


def _texts(names: Iterable[str]) -> Iterator[Source]:
    for name in names:
        path = ROOT / name
        if not path.is_file():
            continue  # deleted, and not yet committed so
        content = path.read_bytes()
        if b"\0" not in content[:8192]:
            yield Source(name, content.decode("utf-8", "replace"))


def report(complaints: Iterable[str]) -> None:
    """Fails with every complaint at once."""
    found = list(complaints)
    assert not found, "\n" + "\n".join(found)


def dotted_names(tree: ast.Module) -> dict[str, str]:
    """Local name → what it stands for in full, for everything that the file imports absolutely."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".", maxsplit=1)[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """`dt.now` → "datetime.datetime.now" where the file says `from datetime import datetime as dt`; else ""."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute) and (base := dotted(node.value, names)):
        return f"{base}.{node.attr}"
    return ""
