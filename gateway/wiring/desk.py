"""The operators' desk of a running instance: administration over HTTP, on threads and connections of its own.

Nothing here waits on the event loop for the storage, nor in the threads that orders use; a change competes with orders
for the ledger no more than a command does that is run beside the gateway.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

import apsw

from gateway.broker.administration import Administration
from gateway.broker.directory import LentKey
from gateway.core.account import Verdict
from gateway.core.directory import UpstreamKey
from gateway.errors import LedgerClosed, OperatorError, Problem, Refused, StorageUnreachable
from gateway.flow.counted import CountedLists
from gateway.flow.key_trial import try_key
from gateway.flow.reconcile import Pass, Reconciler
from gateway.ledger.interface import OrderFilter, Resolution, StoredOrder
from gateway.ledger.sqlite_directory import SqliteDirectory
from gateway.ledger.sqlite_engine import connect, reason_of
from gateway.upstream.operations import OfferGrid
from gateway.wiring.assembly import Parts
from gateway.wiring.keys import lend
from gateway.wiring.reconciling import QUARANTINED, resolve_on
from gateway.wiring.storage import limits_of

WHO: Final = "admin-token"
"""Who makes the changes, in the audit log: whoever holds the admin token."""

_THREADS: Final = 2
"""One for changes, of which the ledger takes one at a time anyway, and one beside a look that takes long."""

T = TypeVar("T")


@contextmanager
def open_desk(parts: Parts, upstream: OfferGrid, reconciler: Reconciler) -> Iterator["OperatorsDesk"]:
    """The desk, until the block is left; what was begun is then done to its end."""
    desk = OperatorsDesk(parts, upstream, reconciler)
    try:
        yield desk
    finally:
        desk.close()


class OperatorsDesk:
    """See `web.admin_operation.Desk`."""

    def __init__(self, parts: Parts, upstream: OfferGrid, reconciler: Reconciler) -> None:
        self._parts = parts
        self._upstream = upstream
        self._reconciler = reconciler
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="desk")
        self._idle: SimpleQueue[SqliteDirectory] = SimpleQueue()
        self._closed = False

    def close(self) -> None:
        self._closed = True
        self._threads.shutdown(wait=True)
        while not self._idle.empty():
            self._idle.get_nowait().close()

    async def beside(self, work: Callable[[], T]) -> T:
        if self._closed:  # it waited for OfferGrid meanwhile
            raise LedgerClosed("this instance is stopping")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def ask(self, work: Callable[[Administration], T]) -> T:
        return await self.beside(lambda: self._done(work))

    async def verify_key(self, team: str, key_id: str) -> tuple[UpstreamKey, Verdict]:
        lent, placed = await self.ask(lambda admin: self._lent(admin, team, key_id))
        verdict = await self._try(lent, placed)
        return await self.ask(lambda admin: admin.key_was_tried(team, key_id, verdict)), verdict

    async def activate_key(self, team: str, key_id: str, *, new_account: bool) -> UpstreamKey:
        lent, placed = await self.ask(lambda admin: self._lent(admin, team, key_id))
        verdict = await self._try(lent, placed)
        return await self.ask(lambda admin: admin.activate_key(team, key_id, verdict, new_account=new_account))

    async def orders(self, wanted: OrderFilter) -> Sequence[StoredOrder]:
        return await self._parts.ledger.page(wanted)

    async def order(self, order_id: str) -> StoredOrder | None:
        return await self._parts.ledger.find(order_id, tenant_id=None)

    async def resolve(self, order_id: str, placed_as: str | None, reason: str) -> StoredOrder:
        parts = self._parts
        word = Resolution(
            order_id=order_id, placed_as=placed_as, reason=reason, who=WHO, at_ms=parts.clock.wall_ms()
        )
        watch_s = parts.settings.reconcile.watch_s
        return await self.beside(lambda: resolve_on(parts.storage, parts.clock, word, watch_s=watch_s))

    async def reconcile(self) -> Pass:
        if self._parts.intake.quarantined:
            raise Refused(QUARANTINED)
        return await self._reconciler.once()

    def _lent(self, admin: Administration, team: str, key_id: str) -> tuple[LentKey, frozenset[str]]:
        parts = self._parts
        lent = lend(admin, parts.storage.vault, team, key_id, limits_of(parts.settings))
        return lent, admin.placed_of_team(team)

    async def _try(self, lent: LentKey, placed: frozenset[str]) -> Verdict:
        parts = self._parts
        upstream = CountedLists(self._upstream, parts.ledger, lent, parts.clock)
        return await try_key(upstream, lent, placed, parts.clock, timeout_s=parts.settings.upstream.timeout_s)

    def _administration(self, directory: SqliteDirectory) -> Administration:
        parts = self._parts
        return Administration(directory, parts.storage.vault, parts.clock, who=WHO, budget=parts.settings.budget)

    def _done(self, work: Callable[[Administration], T]) -> T:
        """In one of the desk's threads, on a connection that nobody else has meanwhile."""
        storage = self._parts.storage
        try:
            directory = self._idle.get_nowait()
        except Empty:
            directory = SqliteDirectory(connect(storage.path))
        try:
            found = work(self._administration(directory))
        except (OperatorError, Problem):  # the connection is as good as before
            self._idle.put(directory)
            raise
        except apsw.Error as fault:
            directory.close()
            raise StorageUnreachable(f"{storage.path}: {reason_of(fault)}") from fault
        except BaseException:
            directory.close()
            raise
        self._idle.put(directory)
        return found
