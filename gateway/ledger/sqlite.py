"""The embedded ledger: one SQLite file; in each process one writer thread and two readers.

Several processes may share a file: each holds an epoch (sqlite_owner.py), by which the others know whether an order in
hand is still somebody's. The commands that only look, or change the directory, need none.
"""

import asyncio
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import apsw

from gateway.clock import Clock
from gateway.core.absence import Witnesses
from gateway.core.budget import READS, Allowance, Shortage
from gateway.core.budget_terms import Terms
from gateway.core.directory import DirectoryRows
from gateway.core.lifecycle import Outcome
from gateway.errors import LedgerClosed, LedgerError, StorageUnreachable
from gateway.ledger import sqlite_reconcile as reconcile
from gateway.ledger import sqlite_rows as rows
from gateway.ledger.beats import Beats
from gateway.ledger.interface import (
    AttemptEnd,
    AttemptStart,
    Claim,
    Claimed,
    Found,
    Known,
    NewOrder,
    OrderFilter,
    OrderState,
    Patience,
    Resolution,
    Seals,
    Settlement,
    Short,
    StoredOrder,
    Stray,
    UnknownOrder,
    WatchedOrder,
)
from gateway.ledger.ledger_time import LedgerTime
from gateway.ledger.mark import quarantine_of
from gateway.ledger.sqlite_alone import last_epoch
from gateway.ledger.sqlite_budget import Calls
from gateway.ledger.sqlite_directory import SqliteDirectory, note_used, refuse_key
from gateway.ledger.sqlite_engine import connect, patient, transaction
from gateway.ledger.sqlite_orders import OrderWrites
from gateway.ledger.sqlite_owner import Owner
from gateway.ledger.sqlite_reader import SqliteReader
from gateway.ledger.sqlite_reap import forget, next_part
from gateway.ledger.sqlite_recover import recover, unsettled_of_owners
from gateway.ledger.sqlite_writer import Writer

CLAIM_WITHIN_S: Final = 1.0
"""How long a new order may wait until the disk turns to it: longer than a locked database keeps the one before."""

AT_ONCE: Final = Patience()

T = TypeVar("T")
Teams = Callable[[apsw.Connection], list[int]]


class SqliteLedger:
    """See `ledger.interface.Ledger`. Must be made on the event loop that uses it."""

    def __init__(
        self, path: Path, seals: Seals, clock: Clock, on_commit: Callable[[float, LedgerError | None], None]
    ) -> None:
        self._seals = seals
        self._clock = clock
        self._owner = Owner(path)
        try:
            connection = connect(path)
            self._beats = Beats(path)
            with patient(connection), transaction(connection):
                self._time = LedgerTime(connection, clock)
                self._beats.begin(connection, self._time.tick())
                self._owner.begin(connection)
            self._reader = SqliteReader(path, seals)
            self._directory_reader = SqliteReader(path, seals)
            # A restore may have replaced the file while it was being opened; from the epoch on it cannot.
            if self._reader.look(last_epoch) < self._owner.epoch:
                raise StorageUnreachable(f"{path}: was replaced while it was being opened")
            self._calls = Calls(self._time.tick)
            self._calls_seen = Calls(self._time.tick)
            self._orders = OrderWrites(seals, self._owner.epoch, self._time.tick, self._calls)
            self._writer = Writer(connection, clock=clock, on_commit=on_commit, undone=self._calls.undone)
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

    def owns(self) -> bool:
        """See `Ledger.owns`: the kernel keeps others off for as long as this process's lock can be seen."""
        return not self._writer.broken.is_set() and self._owner.intact()

    def leads(self) -> bool:
        """Whether this process is the one that looks for unknown orders, for all that share the file."""
        return self._owner.leads()

    async def recover(self, in_hand: Callable[[], Collection[str]]) -> tuple[int, int]:
        """Takes over what is in nobody's hand: what was in flight is `unknown`, what was queued is `not_placed`.

        That is what processes that are gone held; and of this process's own what is not `in_hand` any more, which
        gives the ids of orders and requests that it is still about. Returns how many of each; mostly writes nothing,
        and nothing while the ledger is in quarantine.
        """
        held = await self._follow(unsettled_of_owners)
        gone = set(await asyncio.to_thread(self._owner.gone, {order.owner for order in held}))
        # Asked after the rows were read: a request is in hand before its order has a row.
        hands = in_hand()
        left = [order for order in held if order.owner in gone or self._orders.hands.let_go(order, hands)]
        self._orders.hands.forget(hands)
        if not left:
            return 0, 0
        now = self._clock.wall_ms()
        return await self._writer.run(
            lambda connection: recover(
                connection, self._calls, left, settled_ms=now, settled_tick=self._time.tick()
            )
        )

    async def reap(self, ttl_s: float) -> int:
        """Forgets the orders whose key has expired (sqlite_reap.py). Returns how many there were."""
        forgotten, after, ttl_ms = 0, 0, round(ttl_s * 1000)
        while True:
            found = await self._follow(
                functools.partial(next_part, after=after, ttl_ms=ttl_ms, tick=self._time.tick())
            )
            if found is None:
                return forgotten
            part, any_over = found
            after = part.upto
            if any_over:
                forgotten += await self._writer.run(functools.partial(forget, part=part))

    async def claim(self, order: NewOrder, attempt: AttemptStart | None, patience: Patience = AT_ONCE) -> Claim:
        return await self._writer.run(
            lambda connection: self._orders.claim(connection, order, attempt, patience), within_s=CLAIM_WITHIN_S
        )

    async def recall(self, order: NewOrder) -> Known | None:
        return await self._read(lambda: self._reader.look(lambda reader: self._orders.recall(reader, order)))

    async def start(self, claimed: Claimed, attempt: AttemptStart) -> Claimed | Short:
        return await self._writer.run(lambda connection: self._orders.start(connection, claimed, attempt))

    async def next_attempt(self, claimed: Claimed, ended: AttemptEnd, attempt: AttemptStart) -> Claimed | Short:
        return await self._writer.run(
            lambda connection: self._orders.next_attempt(connection, claimed, ended, attempt)
        )

    async def settle(self, claimed: Claimed, ended: AttemptEnd | None, settlement: Settlement) -> None:
        now = self._clock.wall_ms() if ended is None else ended.ended_ms
        await self._writer.run(lambda connection: self._orders.settle(connection, claimed, ended, settlement, now))

    async def take_read(self, terms: Terms) -> Shortage | None:
        if not terms.divisions:
            return None
        return await self._writer.run(lambda connection: self._calls.take_read(connection, terms))

    async def allowances(self, terms: Sequence[Terms]) -> list[tuple[Allowance, ...]]:
        """What is left of each of these keys' budgets, for all calls."""
        return await self._follow(
            lambda connection: [self._calls_seen.allowances(connection, each, READS) for each in terms]
        )

    async def pause_key(self, key_id: str, pause_s: int) -> None:
        await self._writer.run(lambda connection: self._calls.pause(connection, key_id, 1000 * pause_s))

    async def refuse_key(self, key_id: str) -> bool:
        now = self._clock.wall_ms()
        return await self._writer.run(lambda connection: refuse_key(connection, self._seals, key_id, now))

    async def note_used(self, days: Mapping[str, int]) -> None:
        """Writes the day on which each of these tokens was last shown, unless a later one stands there."""
        await self._writer.run(lambda connection: note_used(connection, days))

    async def beat(self) -> None:
        """One small durable write, by which readiness knows that the ledger takes any; and a look at its files:
        LedgerClosed, and `broken`, where they were removed or replaced, since what is written would be lost.
        """
        number = await self._writer.run(self._beat)
        if not await asyncio.to_thread(self._owner.intact):
            self._writer.distrust()
            raise LedgerClosed("the ledger's files were removed or replaced")
        try:
            await asyncio.to_thread(self._beats.keep, number)
        except LedgerClosed:
            self._writer.distrust()
            raise

    async def unknown(self) -> Sequence[UnknownOrder]:
        """The orders that nobody is sure of: each team's, the oldest first."""
        return await self._of_each(reconcile.unknown_teams, reconcile.unknown)

    async def watched(self) -> Sequence[WatchedOrder]:
        """Orders that were settled because OfferGrid did not have them, for as long as they are looked out for."""
        tick = self._time.tick()
        return await self._of_each(
            reconcile.watched_teams, lambda reader, team_id: reconcile.watched(reader, team_id, tick)
        )

    async def witnesses(self, team_id: int, since_tick: int) -> Witnesses:
        """See `core.absence`: who a listing is held against."""
        return await self._look(lambda reader: reconcile.witnesses(reader, team_id, since_tick))

    async def states(self, team_id: int, order_ids: Sequence[str]) -> Sequence[OrderState]:
        """Those of these orders that are the team's, in no order."""
        return await self._look(lambda reader: reconcile.states(reader, team_id, order_ids))

    async def settle_late(self, order: OrderState, found: Found) -> None:
        """Writes that OfferGrid has an order that is called not placed. LedgerStale where that is not so any more."""
        await self.settle_found(order, found)

    async def settle_found(self, order: UnknownOrder | OrderState, found: Found) -> None:
        """Writes that OfferGrid has an unknown order. LedgerStale where it is not unknown any more."""
        await self._writer.run(
            lambda connection: reconcile.settle_found(connection, self._seals, order, found, self._time.tick())
        )

    async def settle_absent(self, order: UnknownOrder, *, settled_ms: int, watch_ms: int) -> None:
        """Writes that OfferGrid does not have an unknown order, which stays watched for `watch_ms`."""
        await self._writer.run(
            lambda connection: reconcile.settle_absent(
                connection, order, settled_ms=settled_ms, tick=self._time.tick(), watch_ms=watch_ms
            )
        )

    async def note_stray(self, stray: Stray) -> bool:
        """Whether this order at OfferGrid, which should not be there, was not noted before."""
        return await self._writer.run(lambda connection: reconcile.note_stray(connection, stray))

    async def resolve(self, by: Resolution, *, watch_ms: int) -> None:
        """An operator's word on an unknown order, with its audit row. LedgerStale where it is not unknown."""
        await self._writer.run(
            lambda connection: reconcile.resolve(
                connection, self._seals, by, tick=self._time.tick(), watch_ms=watch_ms
            )
        )

    async def find(self, order_id: str, *, tenant_id: int | None) -> StoredOrder | None:
        return await self._read(lambda: self._reader.find(order_id, tenant_id=tenant_id))

    async def page(self, wanted: OrderFilter) -> Sequence[StoredOrder]:
        return await self._read(lambda: self._reader.page(wanted))

    async def unsettled(self) -> dict[Outcome, int]:
        return await self._look(rows.unsettled)

    async def directory_version(self) -> int:
        return await self._follow(lambda connection: SqliteDirectory(connection).version())

    async def directory_rows(self) -> DirectoryRows:
        return await self._follow(lambda connection: SqliteDirectory(connection).rows())

    async def in_quarantine(self) -> bool:
        """Whether the ledger does not know what was placed last, so that no order may be placed; see `ledger.mark`."""
        return await self._follow(lambda connection: quarantine_of(connection) is not None)

    async def close(self) -> None:
        """Waits for accepted writes, then gives the file up."""
        await self._writer.close()
        for executor, reader in ((self._reads, self._reader), (self._follows, self._directory_reader)):
            await asyncio.to_thread(executor.shutdown)
            reader.close()
        self._owner.release()

    def _beat(self, connection: apsw.Connection) -> int:
        self._time.keep(connection)
        return self._beats.next(connection)

    async def _read(self, look: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reads, look)

    async def _look(self, look: Callable[[apsw.Connection], T]) -> T:
        return await self._read(lambda: self._reader.look(look))

    async def _of_each(self, teams: Teams, of: Callable[[apsw.Connection, int], list[T]]) -> list[T]:
        """Team by team: other readers get their turn between two."""
        found: list[T] = []
        for team_id in await self._look(teams):
            found += await self._look(lambda reader: of(reader, team_id))  # noqa: B023 - awaited here
        return found

    async def _follow(self, look: Callable[[apsw.Connection], T]) -> T:
        reader = self._directory_reader
        return await asyncio.get_running_loop().run_in_executor(self._follows, lambda: reader.look(look))
