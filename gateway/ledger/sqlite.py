"""The embedded ledger: one SQLite file, one writer thread, one reader thread.

One `serve` at a time owns a file: it holds the kernel's lock on `FILE.owner` for as long as it lives, so that what
it finds in flight at start certainly belongs to a process that is gone. The commands need no ownership: they only
look, or change the directory.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import apsw

from gateway.clock import Clock
from gateway.core.directory import DirectoryRows
from gateway.core.lifecycle import Outcome
from gateway.errors import LedgerClosed, LedgerError, StorageUnreachable
from gateway.ledger import sqlite_orders as orders
from gateway.ledger import sqlite_reconcile as reconcile
from gateway.ledger.interface import (
    AttemptEnd,
    AttemptStart,
    Claim,
    Claimed,
    Found,
    Known,
    NewOrder,
    OrderFilter,
    Seals,
    Settlement,
    StoredOrder,
    UnknownOrder,
)
from gateway.ledger.sqlite_directory import SqliteDirectory
from gateway.ledger.sqlite_engine import close, connect, reason_of
from gateway.ledger.sqlite_writer import Writer

T = TypeVar("T")


class Ownership:
    """The right to place orders on one ledger file, held by the kernel's lock: it ends with the process.

    Remembers which files it is about: a ledger whose files were removed or replaced keeps nothing of what is written.
    """

    def __init__(self, path: Path) -> None:
        path = path.resolve()  # one file, one lock, whatever link leads to it
        self._lock_path = path.with_name(path.name + ".owner")
        self._watched = (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", ".owner")))
        self._seen: tuple[tuple[int, int], ...] | None = None
        try:
            self._file = os.open(self._lock_path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as fault:
            raise StorageUnreachable(f"{self._lock_path}: {fault.strerror}") from fault
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            os.close(self._file)
            raise StorageUnreachable(f"{path}: another `ordergate serve` is running on this ledger") from fault

    def intact(self) -> bool:
        """Whether the files are those of the first call, which must come after a first write."""
        try:
            found = tuple((status.st_dev, status.st_ino) for status in map(os.stat, self._watched))
        except OSError:
            return False
        self._seen = self._seen or found
        return found == self._seen

    def release(self) -> None:
        os.close(self._file)


class SqliteReader:
    """Looking at orders from one thread, beside whoever writes. Raises LedgerError."""

    def __init__(self, path: Path, seals: Seals) -> None:
        self._connection = connect(path)
        self._seals = seals

    def close(self) -> None:
        close(self._connection)

    def find(self, order_id: str, *, tenant_id: int | None) -> StoredOrder | None:
        return self.look(lambda connection: orders.find(connection, self._seals, order_id, tenant_id))

    def page(self, wanted: OrderFilter) -> Sequence[StoredOrder]:
        return self.look(lambda connection: orders.page(connection, self._seals, wanted))

    def look(self, at: Callable[[apsw.Connection], T]) -> T:
        try:
            return at(self._connection)
        except apsw.Error as fault:
            raise LedgerError(reason_of(fault)) from fault


class SqliteLedger:
    """See `ledger.interface.Ledger`. Must be made on the event loop that uses it, by the file's owner."""

    def __init__(
        self, path: Path, seals: Seals, clock: Clock, on_commit: Callable[[float, LedgerError | None], None]
    ) -> None:
        self._seals = seals
        self._clock = clock
        self._owner = Ownership(path)
        try:
            self._reader = SqliteReader(path, seals)
            self._directory_reader = SqliteReader(path, seals)
            self._writer = Writer(connect(path), clock=clock, on_commit=on_commit)
        except BaseException:
            self._owner.release()
            raise
        # Following the directory must not wait for a long page of orders.
        self._reads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-reader")
        self._follows = ThreadPoolExecutor(max_workers=1, thread_name_prefix="directory-reader")

    @property
    def broken(self) -> asyncio.Event:
        """Set when a write's fate is unknown: this process must end and be started again."""
        return self._writer.broken

    async def recover(self) -> int:
        """Settles what a process that is gone left in flight as `unknown`. Returns how many orders those were."""
        return await self._writer.run(orders.recover)

    async def claim(self, order: NewOrder, attempt: AttemptStart) -> Claim:
        return await self._writer.run(lambda connection: orders.claim(connection, self._seals, order, attempt))

    async def recall(self, order: NewOrder) -> Known | None:
        return await self._read(lambda: self._reader.look(lambda reader: orders.recall(reader, self._seals, order)))

    async def next_attempt(self, claimed: Claimed, ended: AttemptEnd, attempt: AttemptStart) -> Claimed:
        return await self._writer.run(lambda connection: orders.next_attempt(connection, claimed, ended, attempt))

    async def settle(self, claimed: Claimed, ended: AttemptEnd, settlement: Settlement) -> None:
        await self._writer.run(
            lambda connection: orders.settle(connection, self._seals, claimed, ended, settlement)
        )

    async def beat(self) -> None:
        """One small durable write, by which readiness knows that the ledger takes any; and a look at its files.

        LedgerClosed, and `broken`, where the files were removed or replaced: what is written would be lost.
        """
        now = str(self._clock.wall_ms())
        await self._writer.run(
            lambda connection: connection.execute(
                "INSERT INTO meta (name, value) VALUES ('last_beat_ms', ?1) ON CONFLICT DO UPDATE SET value = ?1",
                (now,),
            )
        )
        if not await asyncio.to_thread(self._owner.intact):
            self._writer.distrust()
            raise LedgerClosed("the ledger's files were removed or replaced")

    async def unknown(self) -> Sequence[UnknownOrder]:
        """The orders that nobody is sure of, the oldest first."""
        return await self._read(lambda: self._reader.look(reconcile.unknown))

    async def settle_found(self, order: UnknownOrder, found: Found) -> None:
        """Writes that OfferGrid has an unknown order. LedgerStale where it is not unknown any more."""
        await self._writer.run(lambda connection: reconcile.settle_found(connection, self._seals, order, found))

    async def find(self, order_id: str, *, tenant_id: int | None) -> StoredOrder | None:
        return await self._read(lambda: self._reader.find(order_id, tenant_id=tenant_id))

    async def page(self, wanted: OrderFilter) -> Sequence[StoredOrder]:
        return await self._read(lambda: self._reader.page(wanted))

    async def unsettled(self) -> dict[Outcome, int]:
        return await self._read(lambda: self._reader.look(orders.unsettled))

    async def directory_version(self) -> int:
        return await self._follow(lambda directory: directory.version())

    async def directory_rows(self) -> DirectoryRows:
        return await self._follow(lambda directory: directory.rows())

    async def close(self) -> None:
        """Waits for accepted writes, then gives the file up."""
        await self._writer.close()
        for executor, reader in ((self._reads, self._reader), (self._follows, self._directory_reader)):
            await asyncio.to_thread(executor.shutdown)
            reader.close()
        self._owner.release()

    async def _read(self, look: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reads, look)

    async def _follow(self, look: Callable[[SqliteDirectory], T]) -> T:
        reader = self._directory_reader
        return await asyncio.get_running_loop().run_in_executor(
            self._follows, lambda: reader.look(lambda connection: look(SqliteDirectory(connection)))
        )
