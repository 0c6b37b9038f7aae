"""`ordergate serve` on a machine whose wall clock steps: by as many milliseconds as the file `clock` says."""

import sys
from pathlib import Path
from typing import Final

from gateway.cli.main import main
from gateway.clock import SystemClock

FILE: Final = "clock"


def patch() -> None:
    honest = SystemClock.wall_ms

    def stepped(self: SystemClock) -> int:
        try:
            return honest(self) + int(Path(FILE).read_text() or 0)
        except FileNotFoundError:
            return honest(self)

    SystemClock.wall_ms = stepped  # type: ignore[method-assign]  # in this process alone


if __name__ == "__main__":
    patch()
    sys.argv[0] = "ordergate"
    main()
