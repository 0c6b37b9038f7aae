"""Reconciling and resolving by hand, beside whatever serves."""

import asyncio
import io
from contextlib import suppress

import msgspec

from gateway import __version__
from gateway.broker.directory import Directory
from gateway.clock import Clock, SystemClock
from gateway.core.absence import Terms
from gateway.errors import LedgerStale, NoSuch, Refused, UpstreamOrderTaken
from gateway.flow.intake import Intake
from gateway.flow.reconcile import Pass, Reconciler
from gateway.ledger.interface import Resolution, StoredOrder
from gateway.ledger.ledger_time import LedgerTime
from gateway.ledger.mark import quarantine_of
from gateway.ledger.sqlite import SqliteLedger
from gateway.ledger.sqlite_engine import close, connect, transaction
from gateway.ledger.sqlite_reader import SqliteReader
from gateway.ledger.sqlite_reconcile import resolve
from gateway.settings import Settings
from gateway.settings.model import Reconcile
from gateway.telemetry.logs import make_log
from gateway.telemetry.metrics import Metrics
from gateway.upstream.operations import SPEC_DIGEST
from gateway.wiring.actor import actor
from gateway.wiring.storage import Storage, limits_of, open_storage
from gateway.wiring.upstream import open_upstream

_POLL_S = 0.1
QUARANTINED = "the ledger is older than what was placed and knows too little: `ordergate db rejoin` comes first"


class Reconciled(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at every team came to, and after the stay how many orders were still unknown."""

    looked: Pass
    still_unknown: int


async def reconcile(settings: Settings, *, stay: bool) -> Reconciled:
    """One look at every team's listing. With `stay`, goes on until absence could be proven of what is unknown now.

    Takes over what processes that are gone left in hand. Refused while the ledger is in quarantine.
    """
    clock = SystemClock()
    terms = settings.reconcile
    log = make_log(level="error", style="json", clock=clock, stream=io.StringIO())
    metrics = Metrics(version=__version__, spec_digest=SPEC_DIGEST)
    with open_storage(settings, clock) as storage:
        ledger = SqliteLedger(storage.path, storage.vault, clock, lambda *_: None)
        try:
            if await ledger.in_quarantine():
                raise Refused(QUARANTINED)
            await ledger.recover(tuple)  # this process places none
            async with open_upstream(settings, clock) as upstream:
                reconciler = Reconciler(
                    ledger=ledger,
                    ledger_id=storage.ledger_id,
                    upstream=upstream,
                    keys=Directory(await ledger.directory_rows(), storage.vault, clock, limits_of(settings)),
                    intake=Intake(),
                    clock=clock,
                    metrics=metrics,
                    log=log,
                    terms=Terms(
                        mode=terms.absence, settle_after_s=terms.settle_after_s, interval_s=terms.interval_s
                    ),
                    watch_s=terms.watch_s,
                    per_minute=settings.budget.reserved_per_minute,
                )
                looked = await reconciler.once()
                if stay and looked.unknown_after:
                    await _stay(reconciler, ledger, _patience(terms, looked))
            return Reconciled(looked=looked, still_unknown=(await ledger.unsettled())["unknown"])
        finally:
            await ledger.close()


def _patience(terms: Reconcile, looked: Pass) -> float:
    """Seconds in which a proof can be expected: its two looks, and the one that may be under way before them."""
    return terms.settle_after_s + 4 * terms.interval_s + 3 * looked.seconds


async def _stay(reconciler: Reconciler, ledger: SqliteLedger, within_s: float) -> None:
    """Looks on where nobody else does, until nothing is unknown or no proof can be expected any more."""
    looking = asyncio.create_task(reconciler.run())
    try:
        async with asyncio.timeout(within_s):
            while (await ledger.unsettled())["unknown"]:  # noqa: ASYNC110 - it stands in a file
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        pass
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


def resolve_by_hand(settings: Settings, order_id: str, placed_as: str | None, reason: str) -> StoredOrder:
    """An operator's word on an unknown order, with its audit row. Refused as in `resolve_on`."""
    clock = SystemClock()
    with open_storage(settings, clock) as storage:
        word = Resolution(order_id=order_id, placed_as=placed_as, reason=reason, who=actor(), at_ms=clock.wall_ms())
        return resolve_on(storage, clock, word, watch_s=settings.reconcile.watch_s)


def resolve_on(storage: Storage, clock: Clock, word: Resolution, *, watch_s: float) -> StoredOrder:
    """On connections of its own. NoSuch where there is no such order, Refused where it is not unknown, or upstream's id
    is another order's, and while the ledger is in quarantine.
    """
    order_id = word.order_id
    reader = SqliteReader(storage.path, storage.vault)
    connection = connect(storage.path)
    try:
        if reader.find(order_id, tenant_id=None) is None:
            raise NoSuch(f"there is no order {order_id!r}")
        with transaction(connection):
            if quarantine_of(connection) is not None:
                raise Refused(QUARANTINED)
            tick = LedgerTime(connection, clock).tick()
            resolve(connection, storage.vault, word, tick=tick, watch_ms=round(watch_s * 1000))
        after = reader.find(order_id, tenant_id=None)
    except LedgerStale as fault:
        raise Refused(f"order {order_id} is not unknown: only such a one is resolved by hand") from fault
    except UpstreamOrderTaken as fault:
        raise Refused(f"another order of the team is {word.placed_as} at OfferGrid already") from fault
    finally:
        close(connection)
        reader.close()
    assert after is not None, "it was there, and is not reaped while it was unknown"
    return after
