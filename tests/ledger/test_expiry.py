"""Keys expire and windows close by the ledger's own time, whatever the wall clock says; what is over is forgotten."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.clock import SystemClock
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
