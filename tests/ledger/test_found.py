"""What reconciling found is written exactly once, and only over `unknown`."""

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from gateway.core.lifecycle import OUTCOMES, Outcome
from gateway.errors import LedgerStale, UpstreamOrderTaken
from gateway.ledger.interface import Found
from tests.ledger.ledger_tools import ENDED, a_ledger, alter, claimed, dump, end, new_order

FOUND = Found(upstream_order_id="up-1", upstream_status="pending", text=b'{ "orderId": "up-1" }', settled_ms=9000)


@pytest.mark.parametrize("before", OUTCOMES)
def test_a_find_settles_what_is_unknown_and_nothing_else(tmp_path: Path, before: Outcome) -> None:
    async def play() -> None:
        path = tmp_path / "o.db"
        async with a_ledger(path) as ledger:
            order = await claimed(ledger, new_order("k"))
            await ledger.settle(order, ENDED, end("unknown"))
            (unknown,) = await ledger.unknown()
            assert (unknown.order_id, unknown.version) == (order.order_id, 2)
            alter(path, "UPDATE orders SET outcome = ?", before)
            if before == "unknown":
                await ledger.settle_found(unknown, FOUND)
                stored = await ledger.find(order.order_id, tenant_id=None)
                assert stored is not None
                assert (stored.outcome, stored.http_status, stored.cause) == ("placed", 201, "placed")
                assert (stored.upstream_order_id, stored.upstream_status) == ("up-1", "pending")
                assert (stored.response, stored.answer, stored.settled_ms) == (FOUND.text, None, 9000)
                assert not await ledger.unknown()
            rows = dump(path)
            with pytest.raises((LedgerStale, UpstreamOrderTaken)):
                await ledger.settle_found(unknown, FOUND)
            assert dump(path) == rows

    asyncio.run(play())


def test_a_stale_version_finds_nothing(tmp_path: Path) -> None:
    async def play() -> None:
        path = tmp_path / "o.db"
        async with a_ledger(path) as ledger:
            await ledger.settle(await claimed(ledger, new_order("k")), ENDED, end("unknown"))
            (unknown,) = await ledger.unknown()
            with pytest.raises(LedgerStale):
                await ledger.settle_found(structs.replace(unknown, version=1), FOUND)

    asyncio.run(play())


def test_one_upstream_order_is_not_two_of_ours(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            await ledger.settle(await claimed(ledger, new_order("a")), ENDED, end("placed", "up-1"))
            await ledger.settle(await claimed(ledger, new_order("b")), ENDED, end("unknown"))
            (unknown,) = await ledger.unknown()
            with pytest.raises(UpstreamOrderTaken):
                await ledger.settle_found(unknown, FOUND)
            assert await ledger.unknown() == [unknown]

    asyncio.run(play())
