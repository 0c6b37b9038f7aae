"""`ordergate serve` in which the N-th step of the next order fails for want of memory.

The file `fail-at` in the working directory says N. A step is a call, or going on after an `await`, of a function of
the gateway, and a call from one into what is written in C: there memory is asked for. How many steps the order before
had is in the file `steps`.
"""

import sys
from pathlib import Path
from types import FrameType
from typing import Any, Final

import apsw

from gateway.cli.main import main
from gateway.ledger import sqlite_writer
from gateway.web.orders import OrderEndpoint

HERE: Final = str(Path(sqlite_writer.__file__).parents[1])
COUNTS: Final = 10**9


class Countdown:
    """Counts in every thread that it watches; fails in whichever comes to the step."""

    def __init__(self) -> None:
        self.left = 0

    def begin(self, steps: int) -> None:
        self.left = steps
        self.watch()

    def watch(self) -> None:
        """This thread. The interpreter stops watching a thread in which the watcher raised."""
        if self.left:
            sys.setprofile(self.step)

    def step(self, frame: FrameType, event: str, _argument: Any) -> None:
        if self.left and event in ("call", "c_call") and frame.f_code.co_filename.startswith(HERE):
            self.left -= 1
            if self.left == 0:
                raise MemoryError


def patch() -> None:
    countdown = Countdown()
    endpoint, run = OrderEndpoint.__call__, sqlite_writer._Job.run

    async def counted(self: OrderEndpoint, *args: Any) -> None:
        asked, said = Path("fail-at"), Path("steps")
        if steps := take(asked):
            countdown.begin(steps)
        try:
            await endpoint(self, *args)
        finally:
            if steps == COUNTS:
                say(said, COUNTS - countdown.left)

    def watched(self: sqlite_writer._Job, connection: apsw.Connection) -> bool:
        countdown.watch()
        return run(self, connection)

    OrderEndpoint.__call__ = counted  # type: ignore[method-assign, assignment]  # in this process alone
    sqlite_writer._Job.run = watched  # type: ignore[method-assign]  # as above


def take(file: Path) -> int:
    if not file.exists():
        return 0
    steps = int(file.read_text())
    file.unlink()
    return steps


def say(file: Path, steps: int) -> None:
    file.write_text(str(steps))


if __name__ == "__main__":
    patch()
    sys.argv[0] = "ordergate"
    main()
