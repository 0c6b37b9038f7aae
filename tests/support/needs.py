"""System programs that some tests need, in one place: `pytestmark = needs("strace")`.

Where a program is absent, its tests are left out and the end of the run says so in one line a program, with how to
get it. With `CI=true` they fail instead: what is not run there is not run anywhere. `tests/conftest.py` does both;
`.ci/run` installs the programs.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec
import pytest

ROOT: Final = Path(__file__).resolve().parents[2]


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """`present` says whether it is there; `how` completes the sentence "to run them: …"."""

    present: Callable[[], bool]
    how: str


def _program(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


def _prism() -> bool:
    return shutil.which("node") is not None and (ROOT / "tests/judges/node_modules/.bin/prism").exists()


NEEDS: Final[Mapping[str, Need]] = {
    "strace": Need(present=_program("strace"), how="apt-get install strace"),
    "npm": Need(present=_program("npm"), how="install Node.js 20 or newer with npm"),
    "prism": Need(present=_prism, how="install Node.js 20 or newer with npm, then make test"),
    "prometheus": Need(present=_program("prometheus"), how="apt-get install prometheus"),
    "promtool": Need(present=_program("promtool"), how="apt-get install prometheus"),
    "chromium": Need(present=_program("chromium"), how="apt-get install chromium"),
    "ensurepip": Need(present=lambda: find_spec("ensurepip") is not None, how="apt-get install python3-venv"),
}


def needs(*names: str) -> pytest.MarkDecorator:
    """A marker for a test, a class or (as `pytestmark`) a module that cannot run without these programs."""
    for name in names:
        if name not in NEEDS:
            raise KeyError(f"{name} is not in {Path(__file__).name}: add it there, and to .ci/run")
    return pytest.mark.needs(*names)


def absent(names: tuple[str, ...]) -> list[str]:
    """Those of `names` that this machine does not have, in a stable order."""
    return sorted(name for name in set(names) if not NEEDS[name].present())


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("true", "1")


def missing_line(name: str, tests: int) -> str:
    """What the end of a run says about one absent program."""
    return f"left out {tests} test{'s' if tests != 1 else ''} for want of {name}; to run them: {NEEDS[name].how}"
