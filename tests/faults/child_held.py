"""`ordergate serve` beside another writer, which takes the ledger just when this process looks what was left in it."""

import asyncio
import sys
import threading
from typing import Any, Final

import apsw

from gateway.cli.main import main
from gateway.ledger.sqlite import SqliteLedger

HELD_S: Final = 3.0
"""Longer than any write waits."""


def patch() -> None:
    recover = SqliteLedger.recover

    async def held_recover(self: SqliteLedger, *args: Any) -> Any:
        SqliteLedger.recover = recover  # type: ignore[method-assign]  # once, in this process alone
        taken = asyncio.Event()
        threading.Thread(target=hold, args=(asyncio.get_running_loop(), taken), daemon=True).start()
        await taken.wait()
        return await recover(self, *args)

    SqliteLedger.recover = held_recover  # type: ignore[method-assign, assignment]  # as above


def hold(loop: asyncio.AbstractEventLoop, taken: asyncio.Event) -> None:
    connection = apsw.Connection("var/ordergate.db")
    connection.set_busy_timeout(10_000)
    connection.execute("BEGIN IMMEDIATE")
    loop.call_soon_threadsafe(taken.set)
    threading.Event().wait(HELD_S)
    connection.execute("ROLLBACK")
    connection.close()


if __name__ == "__main__":
    patch()
    sys.argv[0] = "ordergate"
    main()
