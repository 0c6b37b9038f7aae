"""Runs the tests against deliberate defects, each alone, and says which ones no test saw.

    python -m tests.sabotage.run [NUMBER…]

First every named test runs once without a defect and must pass. Then each of `WORKERS` workers, in a copy of the
project of its own, puts one defect after the other into it and runs the defect's test. It is caught when pytest says
that a test failed (1); an interrupted run, an import that fails and a test that is not there (2 to 5) catch nothing.
Exit 0: all caught. 1: some survived. 2: the run itself means nothing: a stale defect, a test that fails without one.
"""

import ast
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from tests.sabotage.defect import ROOT, Defect, Stale, spoiled
from tests.sabotage.every import DEFECTS

WORKERS: Final = 2
TEST_TIMEOUT_S: Final = 40
"""A defect may make a test hang: pytest then ends as failed. It does so from a thread (`--timeout-method`): what a
signal raises may end in a task that nobody waits for.
"""

_COPIED: Final = ("gateway", "generated", "tests", "config", "docs", "codegen", "scripts", "requirements")
_LEFT: Final = shutil.ignore_patterns("__pycache__", "node_modules", ".hypothesis")
_PLUGINS: Final = ("pytest_timeout", "xdist.plugin", "_hypothesis_pytestplugin")
"""All others, which need a second to be loaded and shuffle the tests, stay out."""

_FAILED: Final = 1
_GREEN_AT_MOST_S: Final = 900
_ONE_AT_MOST_S: Final = 300
_TOLD_LINES: Final = 25


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one defect. `told`: the end of what pytest said."""

    number: int
    caught: bool
    code: int
    seconds: float
    told: str


def copy_of_the_project(into: Path) -> Path:
    for name in _COPIED:
        shutil.copytree(ROOT / name, into / name, ignore=_LEFT)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, into)
    return into


def pytest(project: Path, tests: Sequence[str], *options: str, at_most_s: float) -> tuple[int, str]:
    """Exit code and output of these tests in that copy; 124 where they did not end. The copy's own code is tested."""
    command = [
        sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider",
        *(f"-p{plugin}" for plugin in _PLUGINS), f"--timeout={TEST_TIMEOUT_S}",
        "--timeout-method=thread", *options, *tests,
    ]  # fmt: skip
    surroundings = {
        **os.environ, "PYTHONPATH": str(project), "PYTHONSAFEPATH": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }  # fmt: skip
    with tempfile.TemporaryFile("w+") as output:  # a pipe would be held open by what a test left running
        process = subprocess.Popen(
            command, cwd=project, env=surroundings, stdout=output, stderr=output, start_new_session=True
        )
        try:
            code = process.wait(at_most_s)
        except subprocess.TimeoutExpired:
            code = 124
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return code, output.read()


def try_one(project: Path, number: int, defect: Defect) -> Verdict:
    """With the defect, and then without it again."""
    path = project / defect.file
    healthy = path.read_bytes()
    began = time.monotonic()
    try:
        _write(path, spoiled(defect, project).encode())
        code, told = pytest(project, [defect.test], "-x", at_most_s=_ONE_AT_MOST_S)
    finally:
        _write(path, healthy)
    return Verdict(number=number, caught=code == _FAILED, code=code, seconds=time.monotonic() - began, told=told)


def _write(path: Path, content: bytes) -> None:
    """And no older compiled form of it: Python would believe that one, within the second."""
    path.write_bytes(content)
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        compiled.unlink()


def require_sense(chosen: Sequence[tuple[int, Defect]]) -> None:
    """Every defect finds its text, and what comes of it is still a program. Stale, SyntaxError otherwise."""
    for _, defect in chosen:
        source = spoiled(defect)
        if defect.file.endswith(".py"):
            ast.parse(source, filename=f"{defect.file} with the defect '{defect.name}'")


def require_green(project: Path, chosen: Sequence[tuple[int, Defect]]) -> None:
    tests = sorted({defect.test for _, defect in chosen})
    code, told = pytest(project, tests, "-n", str(WORKERS), at_most_s=_GREEN_AT_MOST_S)
    if code:
        _say(told)
        raise Stale(f"sabotage: without any defect the {len(tests)} tests must pass; pytest ended with {code}")
    _say(f"{len(tests)} tests pass without a defect")


def try_all(projects: Sequence[Path], chosen: Sequence[tuple[int, Defect]]) -> list[Verdict]:
    waiting: queue.SimpleQueue[tuple[int, Defect]] = queue.SimpleQueue()
    for one in chosen:
        waiting.put(one)
    verdicts: list[Verdict] = []

    def work(project: Path) -> None:
        while True:
            try:
                number, defect = waiting.get_nowait()
            except queue.Empty:
                return
            verdict = try_one(project, number, defect)
            verdicts.append(verdict)
            word = "caught" if verdict.caught else f"SURVIVED ({verdict.code})"
            _say(f"{number:>4}  {word:<13}  {verdict.seconds:6.1f} s  {defect.name}")

    workers = [threading.Thread(target=work, args=(project,)) for project in projects]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sorted(verdicts, key=lambda verdict: verdict.number)


def main(arguments: Sequence[str]) -> int:
    wanted = {int(argument) for argument in arguments} or set(range(1, len(DEFECTS) + 1))
    chosen = [(number, defect) for number, defect in enumerate(DEFECTS, 1) if number in wanted]
    began = time.monotonic()
    try:
        require_sense(chosen)
        with tempfile.TemporaryDirectory(prefix="sabotage-") as folder:
            projects = [copy_of_the_project(Path(folder, f"worker{number}")) for number in range(WORKERS)]
            require_green(projects[0], chosen)
            verdicts = try_all(projects, chosen)
    except (Stale, SyntaxError) as fault:
        _say(str(fault))
        return 2
    survivors = [verdict for verdict in verdicts if not verdict.caught]
    for verdict in survivors:
        defect = DEFECTS[verdict.number - 1]
        _say(
            f"\n{verdict.number} survived: {defect.name}\n  {defect.file}: {defect.text.strip()!r}\n  {defect.test}"
        )
        _say("\n".join(f"  | {line}" for line in verdict.told.splitlines()[-_TOLD_LINES:]))
    minutes = (time.monotonic() - began) / 60
    _say(f"\n{len(verdicts)} defects, {len(verdicts) - len(survivors)} caught, {minutes:.1f} minutes")
    return 1 if survivors or len(verdicts) != len(chosen) else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
