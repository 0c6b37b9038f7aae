"""The long run: as many seeds and orders as are asked for, on all cores, and the figures of it.

What was played is kept in a file, so that a long run can be had in pieces: the next one goes on where it ended, unless
the program or the simulator has changed meanwhile.
"""

import hashlib
import json
import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.simulate.history import a_folder, play

ROOT: Final = Path(__file__).parents[2]
STATE: Final = ROOT / ".soak/simulated.json"
CHUNK: Final = 25


class Part(msgspec.Struct, kw_only=True):
    """What came of some seeds. `failed` maps a seed to its faults. `seconds` is how long it took to play them."""

    seeds: int = 0
    orders: int = 0
    steps: int = 0
    virtual_s: float = 0
    seconds: float = 0
    seen: Counter[str] = msgspec.field(default_factory=Counter)
    failed: dict[int, list[str]] = msgspec.field(default_factory=dict)

    def add(self, other: "Part") -> None:
        self.seeds += other.seeds
        self.orders += other.orders
        self.steps += other.steps
        self.virtual_s += other.virtual_s
        self.seen.update(other.seen)
        self.failed.update(other.failed)


class Goal(msgspec.Struct, kw_only=True, frozen=True):
    """At least so many of both, from the seed `first` on, in so many minutes at most (None: however long)."""

    seeds: int = 20_000
    orders: int = 1_000_000
    first: int = 0
    minutes: float | None = None
    workers: int = os.cpu_count() or 1

    def reached(self, total: Part) -> bool:
        return total.seeds >= self.seeds and total.orders >= self.orders


def play_some(first: int, count: int, large: bool) -> Part:
    part = Part()
    with a_folder() as folder:
        for seed in range(first, first + count):
            verdict = play(seed, folder, large=large)
            part.seeds += 1
            part.orders += verdict.orders
            part.steps += verdict.steps
            part.virtual_s += verdict.virtual_s
            part.seen.update(verdict.seen)
            if verdict.faults:
                part.failed[seed] = verdict.faults
    return part


def replay_line(seed: int, *, large: bool) -> str:
    return f"replay it: python -m tests.simulate {seed}{' --large' if large else ''} --story"


def soak(say: Callable[[str], None], goal: Goal, *, state: Path = STATE) -> Part:
    """Plays on until the goal is reached or the time is over; says every seed in which an invariant was broken."""
    began = told = time.monotonic()
    program = f"{_program()} from {goal.first}"
    total = _kept(state, program)
    before_s = total.seconds
    if total.seeds:
        say(f"going on after {total.seeds} seeds and {total.orders} orders")
    for seed, faults in total.failed.items():
        say(_failure(seed, faults))
    ends = began + 60 * goal.minutes if goal.minutes is not None else math.inf
    for part in _played(goal, goal.first + total.seeds, lambda: goal.reached(total) or time.monotonic() > ends):
        total.add(part)
        for seed, faults in part.failed.items():
            say(_failure(seed, faults))
        total.seconds = before_s + time.monotonic() - began
        _keep(state, program, total)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            say(f"{total.seeds} seeds, {total.orders} orders, {total.seconds:.0f} s")
    if goal.reached(total):
        state.unlink(missing_ok=True)  # the next run is a new one
    return total


def figures(total: Part) -> list[str]:
    seen = total.seen
    undecided = sum(count for name, count in seen.items() if name.startswith("failed commit "))
    told = ", ".join(f"{name[5:]} {count}" for name, count in sorted(seen.items()) if name[:5] == "told ")
    sent = f"{seen['first_byte']} sendings, {seen['taken']} orders taken"
    ended = f"ends of processes {seen['gone']} (aimed kills {seen['aimed kill']}, power cuts {seen['power_cut']})"
    disk = f"groups not committed {seen['not_committed']}, undecided commits {undecided}"
    return [
        f"{total.seeds} seeds, {total.orders} orders, {seen['asking']} requests, {sent}",
        f"{total.virtual_s / 3600:.0f} virtual hours, {total.steps} steps",
        f"{ended}, pauses {seen['paused']}, {disk}",
        f"told: {told}",
        f"seeds with a violation: {len(total.failed)}",
    ]


def _played(goal: Goal, first: int, enough: Callable[[], bool]) -> Iterator[Part]:
    """Chunk after chunk, in order, until there are enough; every worker has always one more to do."""
    chunks: deque[Future[Part]] = deque()
    with ProcessPoolExecutor(goal.workers) as workers:
        while not enough():
            while len(chunks) < 2 * goal.workers:
                chunks.append(workers.submit(play_some, first, CHUNK, True))
                first += CHUNK
            yield chunks.popleft().result()
        workers.shutdown(cancel_futures=True)


def _failure(seed: int, faults: list[str]) -> str:
    return f"seed {seed} fails: {faults[0]}\n  {replay_line(seed, large=True)}"


def _program() -> str:
    """Of all that a history can depend on in this folder."""
    found = hashlib.sha256()
    for part in ("gateway", "generated", "tests/simulate"):
        for path in sorted((ROOT / part).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                found.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return found.hexdigest()


def _keep(state: Path, program: str, total: Part) -> None:
    state.parent.mkdir(exist_ok=True)
    fresh = state.with_suffix(".new")
    fresh.write_text(json.dumps({"program": program, "part": msgspec.to_builtins(total)}))
    fresh.replace(state)


def _kept(state: Path, program: str) -> Part:
    if not state.is_file():
        return Part()
    kept: dict[str, Any] = json.loads(state.read_text())
    if kept["program"] != program:
        return Part()
    part = kept["part"]
    part["seen"] = Counter(part["seen"])
    part["failed"] = {int(seed): faults for seed, faults in part["failed"].items()}
    return Part(**part)
