"""What a process of the program holds: descriptors, tasks, threads and memory. It writes it down when it is asked.

    python -m tests.support.held FILE serve …      # the program; at each SIGUSR1 it writes `FILE`
    held = ask(lambda: os.kill(pid, SIGUSR1), FILE)

It is asked in its own main thread, which is the event loop's: nothing of the program changes meanwhile but what its
other threads do.
"""

import asyncio
import ctypes
import gc
import itertools
import os
import re
import signal
import socket
import stat
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec

WITHIN_S: Final = 60
"""How long an answer may take on a busy machine. Nothing depends on its being short."""

_NUMBERED: Final = re.compile(r"[_-]?\d+$")


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Each by its kind. `blocks`: what Python's own allocator has given out, after a full collection of garbage.

    `pools` are the threads that a pool starts when there is work for one more, up to a size that it never exceeds;
    `threads` all the others.
    """

    number: int
    descriptors: Mapping[str, int]
    tasks: Mapping[str, int]
    threads: Mapping[str, int]
    pools: Mapping[str, int]
    blocks: int
    resident_kib: int

    def all(self) -> Counter[str]:
        """All but memory and the pools, as `descriptor …`, `task …` and `thread …`."""
        found: Counter[str] = Counter()
        for what, kinds in (("descriptor", self.descriptors), ("task", self.tasks), ("thread", self.threads)):
            found.update({f"{what} {kind}": count for kind, count in kinds.items()})
        return found


def differences(held: Counter[str], before: Counter[str]) -> list[str]:
    """What is held otherwise than before, each in a sentence."""
    return [
        f"{held[kind]} × {kind}, and it was {before[kind]}"
        for kind in sorted(held.keys() | before.keys())
        if held[kind] != before[kind]
    ]


def least(looks: list[Counter[str]]) -> Counter[str]:
    """What each of these looks has seen: that which is there all the time."""
    found = looks[0]
    for look in looks[1:]:
        found &= look
    return found


def ask(signal_it: Callable[[], object], file: Path) -> Held:
    """The answer of a process that `tell_when_asked` into that file."""
    before = _read(file)
    signal_it()
    until = time.monotonic() + WITHIN_S
    while (found := _read(file)) is None or (before is not None and found.number == before.number):
        assert time.monotonic() < until, "the process does not say what it holds"
        time.sleep(0.001)
    return found


def tell_when_asked(file: Path, *, collect: bool = True) -> None:
    """From now on each SIGUSR1 makes this process write what it holds. `collect`: after a collection of garbage."""
    numbers = itertools.count(1)

    def tell(_number: int, _frame: FrameType | None) -> None:
        found = _held(next(numbers), collect=collect)
        written = file.with_suffix(".part")
        written.write_bytes(msgspec.json.encode(found))
        written.replace(file)

    signal.signal(signal.SIGUSR1, tell)


def _read(file: Path) -> Held | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Held)
    except FileNotFoundError:
        return None


def _held(number: int, *, collect: bool) -> Held:
    if collect:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what the C library keeps for later is not held by the program
    threads = [thread.name for thread in threading.enumerate()]
    return Held(
        number=number,
        descriptors=Counter(_descriptors()),
        tasks=Counter(_tasks()),
        threads=Counter(name for name in threads if not _NUMBERED.search(name)),
        pools=Counter(_NUMBERED.sub("", name) for name in threads if _NUMBERED.search(name)),
        blocks=sys.getallocatedblocks(),
        resident_kib=_resident_kib(),
    )


def _descriptors() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - of a Path it would hold one more while it looks
        try:
            target = str(Path(f"/proc/self/fd/{name}").readlink())
            yield _kind_of_socket(int(name)) if target.startswith("socket:") else _kind_of_file(int(name), target)
        except OSError:  # the folder that was looked through, or one that another thread has closed
            continue


def _kind_of_socket(descriptor: int) -> str:
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return "the event loop's own pair"
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return "listening socket"
        return "connection"


def _kind_of_file(descriptor: int, target: str) -> str:
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return f"file {_NUMBERED.sub('', Path(target).name)}"
    return re.sub(r"\d+", "N", target)


def _tasks() -> Iterator[str]:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # before it runs, or after
        return
    for task in asyncio.all_tasks(loop):
        yield getattr(task.get_coro(), "__qualname__", "?")


def _resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


if __name__ == "__main__":
    tell_when_asked(Path(sys.argv[1]))
    sys.argv = ["ordergate", *sys.argv[2:]]
    from gateway.cli.main import main

    main()
