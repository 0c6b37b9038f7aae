"""The long runs, one after the other, and one table of their figures at the end.

    python -m tests.soak [PART…] [--minutes N] [--seeds N] [--orders N] [--first SEED] [--workers N]

Parts: kills (500 times kill -9 and 100 times SIGSTOP under load), points (an order's life ended at each of its steps),
faults (the long variants of the faults of storage), budget (floods of several minutes, simulated days), held (what a
gateway still holds after tens of thousands of requests), changes (how soon tokens, tenants and keys are changed under
load), simulated (histories, `docs/simulation.md`). All of them, unless some are named. With --minutes no part begins
after that time, and the simulated one, which comes last, ends then; what it has played is kept, and the next run goes
on from there.

Exit 0: no violation. 1: a promise was broken, or a part did not run to its end.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from tests.simulate.soak import Goal, figures, soak

ROOT: Final = Path(__file__).parents[2]
AT_MOST_S: Final = 3_600
"""For one test."""

Result = Literal["held", "BROKEN", "so far", "not run"]


class Row(msgspec.Struct, kw_only=True, frozen=True):
    """One part's line of the table; `so far`: nothing was broken until the time was over."""

    part: str
    result: Result
    seconds: float = 0
    figures: Sequence[str] = ()


def kills(_: Goal) -> Row:
    """Fails too where the figures are not those that are promised, or where there are none."""
    row, said = _tested("kills", "tests/crash/test_kills.py")
    found = re.search(
        r"^\.?(orders \d+, kills (\d+), stops (\d+), placed twice (\d+), lost (\d+).*)$", said, re.MULTILINE
    )
    if found is None:
        return msgspec.structs.replace(row, result="BROKEN")
    killed, stopped, twice, lost = map(int, found.groups()[1:])
    good = row.result == "held" and killed >= 500 and stopped >= 50 and twice == lost == 0
    return msgspec.structs.replace(row, result="held" if good else "BROKEN", figures=[found[1]])


def points(_: Goal) -> Row:
    row, said = _tested("points", "tests/crash/test_crash_points.py")
    count = sum(map(int, re.findall(r": (\d+) points", said)))
    return msgspec.structs.replace(row, figures=[f"{count} points of dying or pausing", *row.figures])


def faults(_: Goal) -> Row:
    storage = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests/faults").glob("test_storage_*.py"))
    row, said = _tested("faults", *storage)
    return msgspec.structs.replace(
        row, figures=[*re.findall(r"^\.?(images .*)$", said, re.MULTILINE), *row.figures]
    )


def budget(_: Goal) -> Row:
    row, said = _tested("budget", "tests/faults/test_floods.py", "tests/core/test_budget.py")
    told = re.findall(r"^((?:flood|day) \d.*)$", said, re.MULTILINE)
    return msgspec.structs.replace(row, figures=[*told, *row.figures])


def held(_: Goal) -> Row:
    row, said = _tested("held", "tests/accept/test_leaks.py")
    return msgspec.structs.replace(row, figures=[*re.findall(r"^\.?held: (.*)$", said, re.MULTILINE), *row.figures])


def changes(_: Goal) -> Row:
    row, said = _tested("changes", "tests/accept/test_revocation.py")
    found = re.findall(r"^\.?((?:revoking|suspending|rotating) .*)$", said, re.MULTILINE)
    return msgspec.structs.replace(row, figures=[*found, *row.figures])


def simulated(goal: Goal) -> Row:
    began = time.monotonic()
    total = soak(_say, goal)
    told = figures(total)
    if not goal.reached(total):
        told.append(f"{goal.seeds} seeds and {goal.orders} orders are asked for: the next run goes on from here")
    result: Result = "BROKEN" if total.failed else "held" if goal.reached(total) else "so far"
    return Row(part="simulated", result=result, seconds=time.monotonic() - began, figures=told)


PARTS: Final[dict[str, Callable[[Goal], Row]]] = {
    "kills": kills, "points": points, "faults": faults, "budget": budget, "held": held, "changes": changes,
    "simulated": simulated,
}  # fmt: skip


def _tested(part: str, *tests: str) -> tuple[Row, str]:
    """The long variant of these tests, alone on the machine; what was said is shown as it comes, and returned."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-n", "0", f"--timeout={AT_MOST_S}", *tests]
    said = []
    environment = {**os.environ, "ORDERGATE_SOAK": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            said.append(line)
            _say(line.rstrip("\n"))
    result: Result = "held" if running.returncode == 0 else "BROKEN"
    last = said[-1].strip() if said else "pytest said nothing"
    return Row(part=part, result=result, seconds=time.monotonic() - began, figures=[last]), "".join(said)


def table(rows: Sequence[Row]) -> Iterator[str]:
    yield f"{'part':<10} {'result':<8} {'seconds':>7}  figures"
    for row in rows:
        first, *rest = row.figures or [""]
        yield f"{row.part:<10} {row.result:<8} {row.seconds:7.0f}  {first}"
        for line in rest:
            yield f"{'':<28} {line}"


def main(arguments: list[str]) -> int:
    usual = Goal()
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    for name in ("seeds", "orders", "first", "workers"):
        parser.add_argument(f"--{name}", type=int, default=getattr(usual, name))
    parser.add_argument("--minutes", type=float)
    asked = parser.parse_args(arguments)
    if unknown := set(asked.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    began, rows = time.monotonic(), []
    for name, run in PARTS.items():
        if asked.parts and name not in asked.parts:
            continue
        left = None if asked.minutes is None else asked.minutes - (time.monotonic() - began) / 60
        goal = Goal(
            seeds=asked.seeds, orders=asked.orders, first=asked.first, workers=asked.workers, minutes=left
        )  # fmt: skip
        rows.append(Row(part=name, result="not run") if left is not None and left <= 0 else run(goal))
    for line in table(rows):
        _say(line)
    return 1 if any(row.result == "BROKEN" for row in rows) else 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is a command


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
