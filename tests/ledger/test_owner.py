"""Whose an order is: several processes on one file, and what is taken over from whom."""

import asyncio
import os
from pathlib import Path

import pytest

from gateway.errors import LedgerStale
from gateway.ledger.interface import AttemptEnd, Claimed, Known, OrderFilter
from gateway.ledger.mark import Quarantine, end_quarantine, put_into_quarantine
from gateway.ledger.sqlite_engine import connect
from gateway.ledger.sqlite_owner import Owner
from tests.ledger.ledger_tools import ENDED, START, a_ledger, alter, claimed, dump, end, new_order

NOT_SENT = AttemptEnd(ended_ms=3_000, evidence="not_sent", status=None)


def test_a_living_process_keeps_its_orders_and_a_gone_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "o.db"

    async def play() -> None:
        async with a_ledger(path) as other:
            async with a_ledger(path) as ledger:
                sent = await claimed(ledger)
                waiting = await ledger.claim(new_order("waits"), None)
                assert await other.recover(tuple) == (0, 0)
                with pytest.raises(LedgerStale):  # not even by name: it is not the other's order
                    await other.settle(sent, ENDED, end("placed"))
            assert await other.recover(tuple) == (1, 1)
            outcomes = {order.order_id: order.outcome for order in await other.page(OrderFilter())}
            assert outcomes == {sent.order_id: "unknown", waiting.order_id: "not_placed"}  # type: ignore[union-attr]  # it is new
            assert await other.recover(tuple) == (0, 0)

    asyncio.run(play())


def test_in_quarantine_nothing_is_taken_over_and_nothing_forgotten(tmp_path: Path) -> None:
    """What the ledger calls queued may have been sent since, and what it calls not placed may be there."""
    path = tmp_path / "o.db"

    async def play() -> None:
        async with a_ledger(path) as other:
            async with a_ledger(path) as ledger:
                await claimed(ledger)
                await ledger.claim(new_order("waits"), None)
                await ledger.settle(await claimed(ledger), ENDED, end("not_placed"))
            connection = connect(path)
            put_into_quarantine(connection, Quarantine(reason="restored", since_tick=0))
            before = dump(path)
            assert (await other.recover(tuple), await other.reap(0)) == ((0, 0), 0)
            assert dump(path) == before
            end_quarantine(connection)
            connection.close()
            assert await other.recover(tuple) == (1, 1)
            assert await other.reap(0) == 2

    asyncio.run(play())


def test_nobody_sends_another_processs_order(tmp_path: Path) -> None:
    path = tmp_path / "o.db"

    async def play() -> None:
        async with a_ledger(path) as owner, a_ledger(path) as other:
            sent = await claimed(owner)
            waiting = await owner.claim(new_order("waits"), None)
            assert isinstance(waiting, Claimed)
            rows = dump(path)
            with pytest.raises(LedgerStale):
                await other.start(waiting, START)
            with pytest.raises(LedgerStale):
                await other.next_attempt(sent, NOT_SENT, START)
            assert dump(path) == rows
            await owner.start(waiting, START)
            await owner.next_attempt(sent, NOT_SENT, START)

    asyncio.run(play())


def test_the_same_key_in_another_process_is_in_flight_there(tmp_path: Path) -> None:
    path = tmp_path / "o.db"

    async def play() -> None:
        async with a_ledger(path) as first, a_ledger(path) as second:
            for attempt in (None, START):
                key = "waits" if attempt is None else "sent"
                await first.claim(new_order(key), attempt)
                found = await second.claim(new_order(key), START)
                assert isinstance(found, Known)
                assert found.order.outcome == ("queued" if attempt is None else "in_flight")

    asyncio.run(play())


def test_an_epoch_is_never_given_out_twice(tmp_path: Path) -> None:
    async def epoch() -> int:
        async with a_ledger(tmp_path / "o.db") as ledger:
            return ledger._owner.epoch

    assert [asyncio.run(epoch()) for _again in range(4)] == [1, 2, 3, 4]


def test_one_leads_until_it_ends(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as second:
            async with a_ledger(tmp_path / "o.db") as first:
                assert first.leads()
                assert not second.leads()
                assert first.leads()
            assert second.leads()

    asyncio.run(play())


def test_who_cannot_be_seen_by_others_does_not_own(tmp_path: Path) -> None:
    """Without its lock's file a process could not be told from one that is gone: it sends nothing."""

    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            assert ledger.owns()
            os.unlink(tmp_path / "o.db.owner")  # noqa: PTH108  # somebody tidies up
            assert not ledger.owns()

    asyncio.run(play())


def test_somebody_lives_as_long_as_a_ledger_is_open(tmp_path: Path) -> None:
    async def play() -> None:
        watcher = Owner(tmp_path / "o.db")
        assert watcher.nobody_lives()
        async with a_ledger(tmp_path / "o.db"):
            assert not watcher.nobody_lives()
        assert watcher.nobody_lives()
        watcher.release()

    asyncio.run(play())


def test_orders_of_before_there_were_owners_are_taken_over(tmp_path: Path) -> None:
    from tests.ledger.ledger_tools import alter

    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            await claimed(ledger)
            alter(tmp_path / "o.db", "UPDATE orders SET owner = NULL")
            assert ledger.leads()
            assert await ledger.recover(tuple) == (1, 0)

    asyncio.run(play())


def test_how_an_attempt_ended_that_nobody_saw_is_never_said(tmp_path: Path) -> None:
    path = tmp_path / "o.db"

    async def play() -> None:
        async with a_ledger(path) as ledger:
            sent = await claimed(ledger, new_order("k"))
        async with a_ledger(path) as ledger:
            assert await ledger.recover(tuple) == (1, 0)
            alter(path, "UPDATE orders SET outcome = 'not_placed', settled_tick = 0")
            again = await claimed(ledger, new_order("k"))
            assert again.order_id == sent.order_id
            await ledger.settle(again, NOT_SENT, end("not_placed"))
            (order,) = await ledger.page(OrderFilter())
            assert [attempt.evidence for attempt in order.attempts] == [None, "not_sent"]

    asyncio.run(play())
