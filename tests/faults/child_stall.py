"""`ordergate serve` whose event loop can be made to stand still, as a bad plugin or a long collection would make it.

SIGUSR1: at once, for `STALL_S`; the file `stalling` in the working directory says that it has begun. A file
`stall-after-claim` there: after the next durable claim, before anything else, for as many seconds as it says; or, if
it says `stop`, until SIGCONT comes. SIGUSR2: every thread of the loop's own pool is occupied until the file `free` is
there.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from gateway.cli.main import main
from gateway.ledger.sqlite import SqliteLedger
from gateway.wiring.instance import Instance

STALL_S: Final = 3.0
THREADS: Final = 64
"""More than the pool has on any machine: 32."""


def patch() -> None:
    claim, until_stopped = SqliteLedger.claim, Instance.until_stopped

    async def claim_and_stall(self: SqliteLedger, *args: Any) -> Any:
        found = await claim(self, *args)
        stall(Path("stall-after-claim"))
        return found

    def stall(file: Path) -> None:
        if file.exists():
            said = file.read_text()
            file.unlink()
            if said == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            else:
                time.sleep(float(said))

    def occupy() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(THREADS):
            loop.run_in_executor(None, wait_for_file)

    def wait_for_file() -> None:
        while not Path("free").exists():
            threading.Event().wait(0.02)

    def stand_still() -> None:
        Path("stalling").touch()
        time.sleep(STALL_S)

    async def listen_too(self: Instance) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, stand_still)
        loop.add_signal_handler(signal.SIGUSR2, occupy)
        await until_stopped(self)

    SqliteLedger.claim = claim_and_stall  # type: ignore[method-assign, assignment]  # in this process alone
    Instance.until_stopped = listen_too  # type: ignore[method-assign]  # as above


if __name__ == "__main__":
    patch()
    sys.argv[0] = "ordergate"
    main()
