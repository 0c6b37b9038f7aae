"""What reconciling reads and writes: who bears witness, who is watched, and each change only over what it expects."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from gateway.core.absence import WITNESS_BEFORE_MS
from gateway.core.lifecycle import OUTCOMES, Outcome
from gateway.errors import LedgerError, LedgerStale, UpstreamOrderTaken
from gateway.ledger import sqlite_reconcile
from gateway.ledger.interface import Claimed, Found, OrderState, Resolution, Stray, UnknownOrder
from gateway.ledger.sqlite import SqliteLedger
from gateway.ledger.sqlite_directory import SqliteDirectory
from gateway.ledger.sqlite_engine import connect
from tests.ledger.ledger_tools import ENDED, START, a_ledger, alter, claimed, dump, end, new_order

FOUND = Found(upstream_order_id="up-1", upstream_status="pending", text=b'{ "orderId": "up-1" }', settled_ms=9000)
BY_HAND = Resolution(order_id="", placed_as=None, reason="asked OfferGrid", who="operator", at_ms=7000)


async def unknown_order(ledger: SqliteLedger, key: str | None = None, *, team_id: int = 1) -> UnknownOrder:
    taken = await claimed(ledger, new_order(key, team_id=team_id))
    await ledger.settle(taken, ENDED, end("unknown", response=b"<html>", answer=b"{}"))
    (found,) = [order for order in await ledger.unknown() if order.order_id == taken.order_id]
    return found


async def placed_order(ledger: SqliteLedger, upstream_id: str, *, team_id: int = 1) -> str:
    taken = await claimed(ledger, new_order(None, team_id=team_id))
    await ledger.settle(taken, ENDED, end("placed", upstream_id))
    return taken.order_id


def state_of(order: UnknownOrder, outcome: Outcome, *, version: int | None = None) -> OrderState:
    return OrderState(
        order_id=order.order_id, team_id=order.team_id, outcome=outcome, upstream_order_id=None, http_status=502,
        version=order.version if version is None else version,
    )  # fmt: skip


# -- changes


async def absent(ledger: SqliteLedger, order: UnknownOrder) -> None:
    await ledger.settle_absent(order, settled_ms=8000, watch_ms=60_000)


async def late(ledger: SqliteLedger, order: UnknownOrder) -> None:
    await ledger.settle_late(state_of(order, "not_placed"), FOUND)


async def by_hand(ledger: SqliteLedger, order: UnknownOrder) -> None:
    await ledger.resolve(structs.replace(BY_HAND, order_id=order.order_id), watch_ms=60_000)


async def by_hand_placed(ledger: SqliteLedger, order: UnknownOrder) -> None:
    resolution = structs.replace(BY_HAND, order_id=order.order_id, placed_as="up-9")
    await ledger.resolve(resolution, watch_ms=60_000)


CHANGES: dict[str, tuple[Any, Outcome]] = {
    "absent": (absent, "unknown"), "late": (late, "not_placed"), "by hand": (by_hand, "unknown"),
    "by hand, placed": (by_hand_placed, "unknown"),
}  # fmt: skip


@pytest.mark.parametrize("before", OUTCOMES)
@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_made_over_what_it_expects_and_once(tmp_path: Path, name: str, before: Outcome) -> None:
    change, expects = CHANGES[name]

    async def play() -> None:
        path = tmp_path / "o.db"
        async with a_ledger(path) as ledger:
            order = await unknown_order(ledger)
            alter(path, "UPDATE orders SET outcome = ?", before)
            if before == expects:
                await change(ledger, order)
            rows = dump(path, "orders", "audit")
            with pytest.raises((LedgerStale, UpstreamOrderTaken)):
                await change(ledger, order)
            assert dump(path, "orders", "audit") == rows

    asyncio.run(play())


@pytest.mark.parametrize("name", ["absent", "late"])
def test_a_stale_version_changes_nothing(tmp_path: Path, name: str) -> None:
    change, expects = CHANGES[name]

    async def play() -> None:
        path = tmp_path / "o.db"
        async with a_ledger(path) as ledger:
            order = await unknown_order(ledger)
            alter(path, "UPDATE orders SET outcome = ?", expects)
            rows = dump(path)
            with pytest.raises(LedgerStale):
                await change(ledger, structs.replace(order, version=order.version + 1))
            assert dump(path) == rows

    asyncio.run(play())


def test_absence_keeps_what_was_told_and_a_late_find_replaces_it(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            order = await unknown_order(ledger)
            await absent(ledger, order)
            stored = await ledger.find(order.order_id, tenant_id=None)
            assert stored is not None
            assert (stored.outcome, stored.cause, stored.http_status) == ("not_placed", "absent", 502)
            assert (stored.settled_ms, stored.response, stored.answer) == (8000, b"<html>", b"{}")
            await ledger.settle_late(state_of(order, "not_placed", version=order.version + 1), FOUND)
            stored = await ledger.find(order.order_id, tenant_id=None)
            assert stored is not None
            assert (stored.outcome, stored.cause, stored.http_status) == ("placed", "late", 201)
            assert (stored.response, stored.answer, stored.settled_ms) == (FOUND.text, None, 9000)

    asyncio.run(play())


def test_an_operators_word_is_audited_with_it(tmp_path: Path) -> None:
    async def play() -> None:
        path = tmp_path / "o.db"
        async with a_ledger(path) as ledger:
            gone, there = await unknown_order(ledger), await unknown_order(ledger)
            await by_hand(ledger, gone)
            await by_hand_placed(ledger, there)
            stored = [await ledger.find(order.order_id, tenant_id=None) for order in (gone, there)]
            assert [(row.outcome, row.cause, row.http_status) for row in stored if row] == [
                ("not_placed", "resolved", 502), ("placed", "resolved", 201),
            ]  # fmt: skip
            assert stored[1] is not None and stored[1].response == b'{"orderId":"up-9"}'
            assert stored[1].upstream_order_id == "up-9"
            assert [watched.order_id for watched in await ledger.watched()] == [gone.order_id]
            rows = [row[2:] for row in dump(path, "audit")]
            assert [row[:4] for row in rows] == [
                (7000, "operator", "order resolve", order.order_id) for order in (gone, there)
            ]
            assert [json.loads(row[4]) for row in rows] == [
                {"from": "unknown", "to": "not_placed", "upstreamOrderId": None, "reason": "asked OfferGrid"},
                {"from": "unknown", "to": "placed", "upstreamOrderId": "up-9", "reason": "asked OfferGrid"},
            ]

    asyncio.run(play())


def test_an_audit_row_that_cannot_be_written_undoes_the_change(tmp_path: Path) -> None:
    async def play() -> None:
        path = tmp_path / "o.db"
        async with a_ledger(path) as ledger:
            order = await unknown_order(ledger)
            alter(path, "CREATE TRIGGER no_audit BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'full'); END")
            rows = dump(path)
            with pytest.raises(Exception, match="full"):
                await by_hand(ledger, order)
            assert dump(path) == rows

    asyncio.run(play())


def test_one_upstream_order_is_not_two_of_a_team(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            await placed_order(ledger, "up-1")
            await placed_order(ledger, "up-9")
            order, theirs = await unknown_order(ledger), await unknown_order(ledger, team_id=2)
            with pytest.raises(UpstreamOrderTaken):
                await ledger.settle_found(order, FOUND)
            with pytest.raises(UpstreamOrderTaken):
                await by_hand_placed(ledger, order)
            await ledger.settle_found(theirs, FOUND)
            await absent(ledger, order)
            with pytest.raises(UpstreamOrderTaken):
                await ledger.settle_late(state_of(order, "not_placed", version=order.version + 1), FOUND)

    asyncio.run(play())


# -- what is read


def test_a_stray_is_new_once(tmp_path: Path) -> None:
    async def play() -> None:
        stray = Stray(team_id=1, upstream_order_id="up-1", order_id="id-1", kind="duplicate", seen_ms=1)
        async with a_ledger(tmp_path / "o.db") as ledger:
            assert await ledger.note_stray(stray)
        async with a_ledger(tmp_path / "o.db") as ledger:
            assert not await ledger.note_stray(structs.replace(stray, kind="late", seen_ms=2))
            assert await ledger.note_stray(structs.replace(stray, team_id=2))
            assert await ledger.note_stray(structs.replace(stray, upstream_order_id="up-2"))
            assert dump(tmp_path / "o.db", "strays")[0][1:] == (1, "up-1", "id-1", "duplicate", 1)

    asyncio.run(play())


def test_watched_are_those_whose_time_is_not_over_whatever_they_are(tmp_path: Path) -> None:
    async def play() -> None:
        path = tmp_path / "o.db"
        async with a_ledger(path) as ledger:
            orders = [await unknown_order(ledger, f"k-{number}") for number in range(3)]
            for order in orders:
                await absent(ledger, order)
            await ledger.settle_absent(await unknown_order(ledger), settled_ms=8000, watch_ms=0)
            again = await claimed(ledger, new_order("k-1"))
            assert again.order_id == orders[1].order_id
            watched = await ledger.watched()
            assert {order.order_id for order in watched} == {order.order_id for order in orders}
            assert {(order.team_id, order.team) for order in watched} == {(1, "")}
            alter(path, "UPDATE orders SET watch_until_tick = 0 WHERE order_id = ?", orders[0].order_id)
            assert len(await ledger.watched()) == 2

    asyncio.run(play())


def test_many_orders_of_one_team_hide_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_reconcile, "MAX_UNKNOWN", 3)
    monkeypatch.setattr(sqlite_reconcile, "MAX_WATCHED", 3)

    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            assert not await ledger.unknown() and not await ledger.watched()
            many = [await unknown_order(ledger, f"k-{number}") for number in range(3)]
            for number in range(3, 6):
                await ledger.settle(await claimed(ledger, new_order(f"k-{number}")), ENDED, end("unknown"))
            few = [await unknown_order(ledger, f"of-{team_id}", team_id=team_id) for team_id in (2, 7)]
            assert await ledger.unknown() == [*many, *few]
            for order in (*many, *few):
                await absent(ledger, order)
            assert {order.team_id for order in await ledger.unknown()} == {1}
            for order in await ledger.unknown():
                await absent(ledger, order)
            assert sorted(order.team_id for order in await ledger.watched()) == [1, 1, 1, 2, 7]

    asyncio.run(play())


async def known(ledger: SqliteLedger, since_tick: int, *, team_id: int = 1) -> tuple[list[str], bool]:
    found = await ledger.witnesses(team_id, since_tick)
    ticks = [witness.tick for witness in found.known]
    assert ticks == sorted(ticks)
    return [witness.upstream_order_id for witness in found.known], found.cut


def test_witnesses_are_the_teams_placed_orders_since_then_and_the_last_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        path = tmp_path / "o.db"
        async with a_ledger(path) as ledger:
            assert await known(ledger, 0) == ([], False)
            names = ["a", "b", "c", "d"]
            ids = [await placed_order(ledger, name) for name in names]
            await placed_order(ledger, "theirs", team_id=2)
            await unknown_order(ledger)
            for order_id, tick in zip(ids, (10, 20, 20, 30), strict=True):
                alter(path, "UPDATE orders SET created_tick = ? WHERE order_id = ?", tick, order_id)
            assert await known(ledger, -WITNESS_BEFORE_MS) == (["a", "b", "c", "d"], False)
            assert await known(ledger, 10) == (["a", "b", "c", "d"], False)
            assert await known(ledger, 11) == (["a", "b", "c", "d"], True)
            assert await known(ledger, 20) == (["a", "b", "c", "d"], True)
            assert await known(ledger, 21) == (["c", "d"], True)
            assert await known(ledger, 31) == (["d"], True)
            assert await known(ledger, 0, team_id=2) == (["theirs"], False)
            monkeypatch.setattr(sqlite_reconcile, "MAX_WITNESSES", 2)
            assert await known(ledger, 0) == (["c", "d"], True)

    asyncio.run(play())


def test_what_was_placed_in_an_earlier_account_bears_no_witness(tmp_path: Path) -> None:
    """Nor where the order is tried again, and placed in the new one: then it does."""

    async def play() -> None:
        path = tmp_path / "o.db"
        async with a_ledger(path) as ledger:
            alter(path, "INSERT INTO teams (team_id, name, created_ms) VALUES (1, 'one', 0), (2, 'two', 0)")
            again = new_order("again")
            await ledger.settle(await claimed(ledger, again), ENDED, end("not_placed"))
            await placed_order(ledger, "old")
            await placed_order(ledger, "theirs", team_id=2)
            store = SqliteDirectory(connect(path))
            with store.change():
                store.activate_key(1, "key-2", 1, new_account=True)
            assert await known(ledger, 0) == ([], False)
            assert not store.placed_of_team(1) and store.placed_of_team(2) == {"theirs"}
            alter(path, "UPDATE teams SET account_tick = account_tick - 1")  # what follows may be as quick as that
            alter(path, "UPDATE orders SET settled_tick = settled_tick - 1")
            await ledger.settle(await claimed(ledger, again), ENDED, end("placed", "retried"))
            await placed_order(ledger, "new")
            assert await known(ledger, 0) == (["retried", "new"], False)
            assert await known(ledger, 0, team_id=2) == (["theirs"], False)
            assert store.placed_of_team(1) == {"retried", "new"}
            store.close()

    asyncio.run(play())


def test_nothing_is_sent_to_an_account_that_the_team_has_left(tmp_path: Path) -> None:
    """By a process that has not heard of it: its order stays what it was."""

    async def play() -> None:
        path = tmp_path / "o.db"
        async with a_ledger(path) as ledger:
            alter(path, "INSERT INTO teams (team_id, name, created_ms) VALUES (1, 'one', 0)")
            alter(
                path,
                """INSERT INTO upstream_keys (key_id, team_id, state, sealed_key, created_ms)
                   VALUES ('key-1', 1, 'active', x'', 0), ('key-2', 1, 'standby', x'', 0)""",
            )
            waiting = await ledger.claim(new_order("waiting"), None)
            assert isinstance(waiting, Claimed)
            store = SqliteDirectory(connect(path))
            with store.change():
                store.activate_key(1, "key-2", 1, new_account=True)
            store.close()
            before = dump(path)
            for send in (ledger.start(waiting, START), ledger.claim(new_order("other"), START)):
                with pytest.raises(LedgerError):
                    await send
            assert dump(path) == before
            await ledger.start(waiting, structs.replace(START, key_id="key-2"))

    asyncio.run(play())


def test_states_are_of_the_team_that_is_asked_for(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            there, order = await placed_order(ledger, "up-1"), await unknown_order(ledger)
            theirs = await placed_order(ledger, "up-1", team_id=2)
            asked = [there, order.order_id, theirs, "nobody's", "', '"]
            found = {state.order_id: state for state in await ledger.states(1, asked)}
            assert set(found) == {there, order.order_id}
            assert (found[there].outcome, found[there].upstream_order_id) == ("placed", "up-1")
            assert found[order.order_id] == state_of(order, "unknown")
            assert await ledger.states(1, []) == []

    asyncio.run(play())


def test_reading_witnesses_does_not_go_through_the_whole_ledger(tmp_path: Path) -> None:
    async def play() -> None:
        path = tmp_path / "o.db"
        async with a_ledger(path) as ledger:
            plan = ledger._reader.look(
                lambda connection: connection.execute(
                    "EXPLAIN QUERY PLAN " + sqlite_reconcile._WITNESSES, (1, 10)
                ).fetchall()
            )
            text = " ".join(str(row) for row in plan)
            assert "placed_orders_of_a_team" in text and "TEMP B-TREE" not in text

    asyncio.run(play())
