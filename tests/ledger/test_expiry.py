"""Keys expire and windows close by the ledger's own time, whatever the wall clock says; what is over is forgotten."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.clock import SystemClock
from gateway.core.absence import WITNESS_BEFORE_MS
from gateway.core.lifecycle import Outcome
from gateway.ledger.interface import Claimed, Known, OrderFilter
from gateway.ledger.ledger_time import LedgerTime
from gateway.ledger.sqlite import SqliteLedger
from tests.ledger.ledger_tools import ENDED, START, VAULT, alter, claimed, end, new_order


class Moved(SystemClock):
    """A clock that a test moves: each of its two times by itself."""

    def __init__(self) -> None:
        self.wall, self.mono = 1_700_000_000_000, 1000.0

    def wall_ms(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.mono


def played(path: Path, play: Callable[[SqliteLedger, Moved], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        clock = Moved()
        ledger = SqliteLedger(path, VAULT, clock, lambda *_: None)
        try:
            await play(ledger, clock)
        finally:
            await ledger.close()

    asyncio.run(run())


async def settled(ledger: SqliteLedger, key: str | None, outcome: Outcome = "placed", **more: Any) -> str:
    order = await claimed(ledger, new_order(key, **more))
    await ledger.settle(order, ENDED, end(outcome, order.order_id if outcome == "placed" else None))
    return order.order_id


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000, 365 * 86_400_000])
def test_a_step_of_the_wall_clock_changes_nothing(tmp_path: Path, step_ms: int) -> None:
    async def play(ledger: SqliteLedger, clock: Moved) -> None:
        by_body: dict[str, Any] = {"body": b"the same", "window_ms": 300_000}
        await settled(ledger, "k")
        await settled(ledger, None, **by_body)
        clock.wall += step_ms
        clock.mono += 299.9
        assert await ledger.reap(86_400) == 0
        assert isinstance(await ledger.claim(new_order("k"), START), Known)
        assert isinstance(await ledger.claim(new_order(None, **by_body), START), Known)
        clock.mono += 0.2
        assert isinstance(await ledger.claim(new_order(None, **by_body), START), Claimed)

    played(tmp_path / "o.db", play)


def test_a_key_names_its_order_for_its_time_and_then_a_new_one(tmp_path: Path) -> None:
    async def play(ledger: SqliteLedger, clock: Moved) -> None:
        first = await settled(ledger, "k", "rejected")
        clock.mono += 86_399
        assert isinstance(await ledger.claim(new_order("k"), START), Known)
        assert await ledger.recall(new_order("k")) is not None
        clock.mono += 1
        assert await ledger.recall(new_order("k")) is None
        again = await ledger.claim(new_order("k", body=b"another"), START)
        assert isinstance(again, Claimed)
        assert again.order_id != first
        stored = await ledger.find(first, tenant_id=1)
        assert stored is not None and stored.idempotency_key is None, "the key is the new order's"

    played(tmp_path / "o.db", play)


@pytest.mark.parametrize("outcome", ["unknown", "in_flight", "queued"])
def test_an_unsettled_order_keeps_its_key_for_ever(tmp_path: Path, outcome: Outcome) -> None:
    async def play(ledger: SqliteLedger, clock: Moved) -> None:
        order = await ledger.claim(new_order("k"), None if outcome == "queued" else START)
        assert isinstance(order, Claimed)
        if outcome == "unknown":
            await ledger.settle(order, ENDED, end("unknown"))
        clock.mono += 10**9
        assert await ledger.reap(60) == 0
        assert isinstance(await ledger.claim(new_order("k"), START), Known)

    played(tmp_path / "o.db", play)


def test_a_watched_order_is_kept_until_its_watch_is_over(tmp_path: Path) -> None:
    async def play(ledger: SqliteLedger, clock: Moved) -> None:
        order_id = await settled(ledger, "k", "not_placed")
        alter(tmp_path / "o.db", "UPDATE orders SET watch_until_tick = settled_tick + 100000")
        clock.mono += 99
        assert await ledger.reap(60) == 0
        tried = await ledger.claim(new_order("k"), START)
        assert isinstance(tried, Claimed) and tried.order_id == order_id, "its key names it still"
        await ledger.settle(tried, ENDED, end("rejected"))
        clock.mono += 70
        assert await ledger.reap(60) == 1

    played(tmp_path / "o.db", play)


def test_what_is_over_is_forgotten_and_what_bears_witness_is_not(tmp_path: Path) -> None:
    async def play(ledger: SqliteLedger, clock: Moved) -> None:
        for at in range(4):
            await settled(ledger, f"old-{at}")
            await settled(ledger, f"refused-{at}", "rejected")
        await settled(ledger, "of another team", team_id=2)
        clock.mono += 100
        assert await ledger.reap(60) == 7
        left = {order.idempotency_key for order in await ledger.page(OrderFilter())}
        assert left == {"old-3", "of another team"}, "each team's newest placed order"
        connection = apsw.Connection(str(tmp_path / "o.db"))
        assert connection.execute("SELECT count(*) FROM attempts").get == 2
        connection.close()

    played(tmp_path / "o.db", play)


def test_witnesses_of_an_unknown_order_are_kept_with_it(tmp_path: Path) -> None:
    async def play(ledger: SqliteLedger, clock: Moved) -> None:
        for name in ("a", "b"):
            await settled(ledger, name)
        clock.mono += 3_601
        await settled(ledger, "within the hour")
        order = await claimed(ledger, new_order("lost"))
        await ledger.settle(order, ENDED, end("unknown"))
        await settled(ledger, "later")
        clock.mono += 100_000
        assert await ledger.reap(60) == 1
        left = {order.idempotency_key for order in await ledger.page(OrderFilter())}
        assert left == {"b", "within the hour", "lost", "later"}

    played(tmp_path / "o.db", play)


async def in_doubt(ledger: SqliteLedger, key: str, *, team_id: int = 1) -> None:
    await ledger.settle(await claimed(ledger, new_order(key, team_id=team_id)), ENDED, end("unknown"))


def test_an_order_that_stays_in_doubt_keeps_the_witnesses_of_its_time_and_no_later_ones(tmp_path: Path) -> None:
    """A day and an hour after it became unknown: OfferGrid acts within a day at most."""
    day = 86_400

    async def play(ledger: SqliteLedger, clock: Moved) -> None:
        for name in ("long before", "before"):
            await settled(ledger, name)
        clock.mono += 3_601
        await in_doubt(ledger, "lost")
        clock.mono += day + 3_599
        await settled(ledger, "the last of its time")
        clock.mono += 2
        for name in ("later", "before the other one"):
            await settled(ledger, name)
        clock.mono += 10 * day
        await in_doubt(ledger, "lost too")
        for name in ("with it", "newest"):
            await settled(ledger, name)
        clock.mono += 100 * day
        assert await ledger.reap(60) == 2
        left = {order.idempotency_key for order in await ledger.page(OrderFilter())}
        assert left == {
            "before", "lost", "the last of its time", "before the other one", "lost too", "with it", "newest",
        }  # fmt: skip
        # Each of them has what its proof takes: all from an hour before it on that is known, and the last one before.
        ticks = [order.created_tick for order in await ledger.unknown()]
        known = [await ledger.witnesses(1, tick - WITNESS_BEFORE_MS) for tick in ticks]
        assert [(len(found.known), found.cut) for found in known] == [(5, True), (3, True)]

    played(tmp_path / "o.db", play)


@pytest.mark.parametrize("how", ["in flight", "waiting", "unknown since nobody knows when"])
def test_what_may_still_be_placed_keeps_all_witnesses_after_it(tmp_path: Path, how: str) -> None:
    async def play(ledger: SqliteLedger, clock: Moved) -> None:
        if how == "waiting":
            await ledger.claim(new_order("open"), None)
        elif how == "in flight":
            await claimed(ledger, new_order("open"))
        else:
            await in_doubt(ledger, "open")
            alter(tmp_path / "o.db", "UPDATE orders SET unknown_tick = NULL")
        for at in range(3):
            clock.mono += 30 * 86_400
            await settled(ledger, str(at))
        clock.mono += 30 * 86_400
        assert await ledger.reap(60) == 0

    played(tmp_path / "o.db", play)


def test_the_time_of_doubt_begins_with_the_last_attempt(tmp_path: Path) -> None:
    """However long ago the order was claimed: it may have been tried again by then."""

    async def play(ledger: SqliteLedger, clock: Moved) -> None:
        await settled(ledger, "k", "not_placed")
        clock.mono += 80_000
        again = await ledger.claim(new_order("k"), START)
        assert isinstance(again, Claimed)
        clock.mono += 80_000
        await ledger.settle(again, ENDED, end("unknown"))
        clock.mono += 80_000
        for name in ("around it", "newest"):
            await settled(ledger, name)
        clock.mono += 80_000
        assert await ledger.reap(60) == 0
        (order,) = await ledger.unknown()
        await ledger.settle_absent(order, settled_ms=1, watch_ms=0)
        assert await ledger.reap(60) == 1

    played(tmp_path / "o.db", play)


def test_each_of_several_doubts_keeps_its_own_witnesses(tmp_path: Path) -> None:
    async def play(ledger: SqliteLedger, clock: Moved) -> None:
        await in_doubt(ledger, "one")
        clock.mono += 20 * 3_600
        await in_doubt(ledger, "another")
        clock.mono += 20 * 3_600
        await settled(ledger, "around the other one alone")
        clock.mono += 20 * 3_600
        for name in ("around none", "newest"):
            await settled(ledger, name)
        clock.mono += 100
        assert await ledger.reap(60) == 1
        assert "around none" not in {order.idempotency_key for order in await ledger.page(OrderFilter())}

    played(tmp_path / "o.db", play)


def test_the_time_of_doubt_of_what_a_dead_process_left_is_known_too(tmp_path: Path) -> None:
    async def play(ledger: SqliteLedger, clock: Moved) -> None:
        other = SqliteLedger(tmp_path / "o.db", VAULT, clock, lambda *_: None)
        await claimed(other, new_order("left"))
        await other.close()
        clock.mono += 200_000
        assert await ledger.recover(tuple) == (1, 0)
        clock.mono += 80_000
        await settled(ledger, "around it")
        clock.mono += 80_000
        for name in ("around none", "newest"):
            await settled(ledger, name)
        clock.mono += 100
        assert await ledger.reap(60) == 1
        assert "around none" not in {order.idempotency_key for order in await ledger.page(OrderFilter())}

    played(tmp_path / "o.db", play)


def test_one_teams_doubt_keeps_no_others_witnesses(tmp_path: Path) -> None:
    async def play(ledger: SqliteLedger, clock: Moved) -> None:
        await in_doubt(ledger, "lost", team_id=2)
        for at in range(3):
            await settled(ledger, str(at))
            await settled(ledger, f"theirs {at}", team_id=2)
        clock.mono += 100
        assert await ledger.reap(60) == 2

    played(tmp_path / "o.db", play)


def test_forgetting_looks_at_a_part_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.ledger import sqlite_reap

    monkeypatch.setattr(sqlite_reap, "_PART", 3)

    async def play(ledger: SqliteLedger, clock: Moved) -> None:
        for at in range(10):
            await settled(ledger, str(at), "rejected" if at % 3 else "not_placed")
        clock.mono += 100
        await settled(ledger, "young", "rejected")
        assert await ledger.reap(60) == 10
        assert len(await ledger.page(OrderFilter())) == 1

    played(tmp_path / "o.db", play)


def test_the_ledgers_time_goes_on_after_a_reboot_and_never_back() -> None:
    connection, clock = apsw.Connection(":memory:"), Moved()
    connection.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL)")
    time = LedgerTime(connection, clock, lambda: "boot 1")
    clock.mono += 50
    assert time.tick() == 50_000
    clock.mono += 10  # nothing was kept since: the same boot knows all the same
    assert LedgerTime(connection, clock, lambda: "boot 1").tick() == 60_000
    clock.mono = 5
    assert LedgerTime(connection, clock, lambda: "boot 2").tick() == 60_000
    clock.mono = 3  # the same boot id with a clock that began anew is another boot
    assert LedgerTime(connection, clock, lambda: "boot 2").tick() == 60_000
    clock.mono = 100_000
    assert LedgerTime(connection, clock, lambda: "").tick() == 60_000, (
        "without a name each start is a boot of its own"
    )
