"""The generator as its users meet it: a program in an environment of its own, judged by what it writes and says."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "codegen" / "spec" / "place-a-new-order.md"


class Ran(NamedTuple):
    """What a run of the generator came to."""

    code: int
    out: str
    err: str


Codegen = Callable[..., Ran]
Load = Callable[[Path], ModuleType]


@pytest.fixture(scope="session")
def codegen() -> Codegen:
    """Runs `python -m codegen` with these arguments and environment variables, from the project's root."""

    def run(*arguments: str | Path, **variables: str) -> Ran:
        command = [".venv-codegen/bin/python", "-m", "codegen", *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **variables})
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def page() -> str:
    """The page as published."""
    return PAGE.read_text(encoding="utf-8")


@pytest.fixture
def no_overlays(tmp_path: Path) -> Path:
    """A folder without overlays, for documents to which the project's own do not fit."""
    folder = tmp_path / "no-overlays"
    folder.mkdir()
    return folder


@pytest.fixture
def load() -> Iterator[Load]:
    """Imports a generated folder as a package of its own, beside the project's `generated`."""
    before = set(sys.modules)

    def importing(folder: Path) -> ModuleType:
        name = f"generated_{abs(hash(folder))}"
        spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
        assert spec is not None and spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules[name] = package
        spec.loader.exec_module(package)
        for part in ("models", "operations", "schemas"):
            importlib.import_module(f"{name}.{part}")
        return package

    yield importing
    for name in set(sys.modules) - before:
        if name.startswith("generated_"):
            del sys.modules[name]
