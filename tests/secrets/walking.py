"""The program, which on SIGUSR2 writes down how every object of the gateway's own shows itself.

    WALK_TO=FILE python -m tests.secrets.walking serve

One line an object: what `repr`, `str` and `format` make of it. From all that the process can reach: modules, stacks,
tasks, and what is referred to from there.
"""

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.cli import main as program

ROOMS = ("gateway.", "generated.")


def reachable() -> Iterator[Any]:
    gc.unfreeze()
    frames = list(sys._current_frames().values())
    waiting: list[Any] = [*gc.get_objects(), *frames]
    for task in asyncio.all_tasks():
        waiting += [task, *task.get_stack()]
    seen: set[int] = set()
    seen |= {id(seen), id(waiting)}  # or every number in it would be one more object to look at
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if not isinstance(one, int | float | str | bytes):
            waiting += gc.get_referents(one)


def shown() -> Iterator[str]:
    for one in reachable():
        module: Any = type(one).__module__  # some make more of it than a text
        if isinstance(module, str) and module.startswith(ROOMS):
            yield f"{module}.{type(one).__qualname__}: {shows(one)}"


def shows(one: Any) -> str:
    try:
        return f"{one!r} {one!s} {one}"
    except AttributeError:  # it is being made right now
        return "not whole yet"


def walk(*_: Any) -> None:
    to = Path(os.environ["WALK_TO"])
    beside = to.with_name(to.name + ".next")
    beside.write_text("\n".join(shown()), "utf-8", "backslashreplace")
    beside.replace(to)


if __name__ == "__main__":
    assert threading.current_thread() is threading.main_thread()
    signal.signal(signal.SIGUSR2, walk)
    program.main()
