"""Counting calls for a command, which has no `SqliteLedger`: each in a transaction of its own, on a connection of its
own. Durability is the transaction's.
"""

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import apsw

from gateway.clock import Clock
from gateway.core.budget import Shortage
from gateway.core.budget_terms import Terms
from gateway.errors import LedgerError
from gateway.ledger.ledger_time import LedgerTime
from gateway.ledger.sqlite_budget import Calls
from gateway.ledger.sqlite_engine import connect, patient, reason_of, transaction

T = TypeVar("T")


class SqliteReads:
    """See `flow.ports.CountsReads`."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    async def take_read(self, terms: Terms) -> Shortage | None:
        return await self._counted(lambda connection, calls: calls.take_read(connection, terms))

    async def pause_key(self, key_id: str, pause_s: int) -> None:
        await self._counted(lambda connection, calls: calls.pause(connection, key_id, 1000 * pause_s))

    async def _counted(self, work: Callable[[apsw.Connection, Calls], T]) -> T:
        return await asyncio.to_thread(self._count, work)

    def _count(self, work: Callable[[apsw.Connection, Calls], T]) -> T:
        try:
            with closing(connect(self._path)) as connection, patient(connection), transaction(connection):
                return work(connection, Calls(LedgerTime(connection, self._clock).tick))
        except apsw.Error as fault:
            raise LedgerError(f"{self._path}: {reason_of(fault)}") from fault
