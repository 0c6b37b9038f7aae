"""Claiming: first wins, a key belongs to one tenant, and only what is not placed is claimed again."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from gateway.core.lifecycle import OUTCOMES, Outcome, may_follow
from gateway.errors import LedgerError, LedgerStale
from gateway.ledger.interface import AttemptEnd, AttemptStart, Claimed, Known, OrderFilter, Settlement
from gateway.ledger.sqlite import SqliteLedger
from tests.ledger.ledger_tools import ENDED, START, a_ledger, alter, claimed, dump, end, new_order

FINAL: list[Outcome] = ["placed", "rejected", "not_placed", "unknown"]


def test_of_50_claims_of_one_key_at_once_one_wins(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            found = await asyncio.gather(*(ledger.claim(new_order("k"), START) for _ in range(50)))
            won = [claim for claim in found if isinstance(claim, Claimed)]
            lost = [claim for claim in found if isinstance(claim, Known)]
            assert (len(won), len(lost)) == (1, 49)
            assert {known.order.order_id for known in lost} == {won[0].order_id}
            assert all(known.same_body and known.order.outcome == "in_flight" for known in lost)
            assert len(await ledger.page(OrderFilter(limit=100))) == 1

    asyncio.run(play())


def test_a_key_is_the_tenants_own(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            one = await claimed(ledger, new_order("k", tenant_id=1))
            other = await claimed(ledger, new_order("k", tenant_id=11))
            await claimed(ledger, new_order("1:k", tenant_id=1))
            assert one.order_id != other.order_id
            digests = await ledger._writer.run(lambda at: at.execute("SELECT key_digest FROM orders").fetchall())
            assert len(set(digests)) == 3, "nothing on disk says that two tenants chose the same key"
            assert await ledger.find(one.order_id, tenant_id=11) is None
            assert await ledger.find(one.order_id, tenant_id=1) == await ledger.find(one.order_id, tenant_id=None)

    asyncio.run(play())


@pytest.mark.parametrize("key", ["k", None], ids=["key", "body"])
def test_equal_digests_of_two_tenants_name_two_orders(tmp_path: Path, key: str | None) -> None:
    """The digests hold the tenant's id; the statements do not rely on it."""

    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            order = new_order(key, body=b"the same", window_ms=300_000)
            mine = await claimed(ledger, order)
            theirs = structs.replace(order, order_id="another", tenant_id=2)
            assert await ledger.recall(theirs) is None
            assert (await claimed(ledger, theirs)).order_id == "another"
            known = await ledger.claim(structs.replace(order, order_id="a third"), START)
            assert isinstance(known, Known) and known.order.order_id == mine.order_id

    asyncio.run(play())


def test_without_a_key_every_claim_is_a_new_order(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            assert len({(await claimed(ledger, new_order(None))).order_id for _ in range(5)}) == 5

    asyncio.run(play())


@pytest.mark.parametrize("outcome", FINAL)
@pytest.mark.parametrize("body", [b"fingerprint", b"another"])
def test_a_known_key_is_answered_with_its_order(tmp_path: Path, outcome: Outcome, body: bytes) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            first = await claimed(ledger, new_order("k"))
            await ledger.settle(first, ENDED, end(outcome, response=b"response", answer=b"answer"))
            again = await ledger.claim(new_order("k", body=body), AttemptStart(key_id="key-2", started_ms=3_000))
            if outcome == "not_placed" and body == b"fingerprint":
                assert again == structs.replace(first, version=first.version + 2, key_id="key-2")
                stored = await ledger.find(first.order_id, tenant_id=1)
                assert stored is not None
                assert (stored.outcome, stored.response, stored.answer, stored.settled_ms) == (
                    "in_flight", None, None, None,
                )  # fmt: skip
                assert [(kept.started_ms, kept.ended_ms) for kept in stored.attempts] == [
                    (1_000, 2_000),
                    (3_000, None),
                ]
            else:
                before = await ledger.find(first.order_id, tenant_id=1)
                assert before is not None
                assert again == Known(order=before, same_body=body == b"fingerprint", by_body=False)
                assert (before.outcome, before.idempotency_key) == (outcome, "k")
                assert (before.response, before.answer) == (b"response", b"answer")

    asyncio.run(play())


def test_of_50_second_tries_of_what_is_not_placed_one_wins(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            first = await claimed(ledger, new_order("k"))
            await ledger.settle(first, ENDED, end("not_placed"))
            found = await asyncio.gather(*(ledger.claim(new_order("k"), START) for _ in range(50)))
            assert sum(isinstance(claim, Claimed) for claim in found) == 1

    asyncio.run(play())


@pytest.mark.parametrize("before", OUTCOMES)
@pytest.mark.parametrize("after", OUTCOMES)
def test_the_statements_allow_exactly_the_listed_transitions(
    tmp_path: Path, before: Outcome, after: Outcome
) -> None:
    """Each pair of states, driven through the real ledger by each of its writers."""
    path = tmp_path / "o.db"

    async def owner_writes(ledger: SqliteLedger) -> None:
        order = await claimed(ledger, new_order("k"))
        alter(path, "UPDATE orders SET outcome = ?", before)
        match after:
            case "queued":
                assert isinstance(await ledger.claim(new_order("k"), None), Claimed)
            case "in_flight" if before == "not_placed":
                assert isinstance(await ledger.claim(new_order("k"), START), Claimed)
            case "in_flight" if before == "in_flight":
                await ledger.next_attempt(order, ENDED, START)
            case "in_flight":
                await ledger.start(order, START)
            case _:
                ended = None if before == "queued" else ENDED
                await ledger.settle(order, ended, end(after) if after in FINAL else _odd(after))

    async def owner_may() -> bool:
        async with a_ledger(path) as ledger:
            try:
                await owner_writes(ledger)
            except (LedgerError, AssertionError):
                (row,) = dump(path, "orders")
                assert before in row, "a refused change writes nothing"
                return False
            return True

    async def recovered() -> Outcome:
        async with a_ledger(path) as ledger:
            alter(path, "UPDATE orders SET outcome = ?, owner = 4711", before)
            await ledger.recover(tuple)
            (order,) = await ledger.page(OrderFilter())
            return order.outcome

    assert asyncio.run(owner_may()) == may_follow(before, after, "owner")
    changed = asyncio.run(recovered())
    assert (changed == after != before) == may_follow(before, after, "recovery")


@pytest.mark.parametrize("before", OUTCOMES)
def test_only_an_order_in_flight_gets_a_further_attempt(tmp_path: Path, before: Outcome) -> None:
    path = tmp_path / "o.db"

    async def play() -> None:
        async with a_ledger(path) as ledger:
            order = await claimed(ledger)
            alter(path, "UPDATE orders SET outcome = ?", before)
            rows = dump(path)
            if before == "in_flight":
                await ledger.next_attempt(order, ENDED, START)
                return
            with pytest.raises(LedgerStale):
                await ledger.next_attempt(order, ENDED, START)
            assert dump(path) == rows

    asyncio.run(play())


def _odd(outcome: Outcome) -> Settlement:
    """A settlement that nobody makes."""
    return msgspec.structs.replace(end("unknown"), outcome=outcome)


def test_a_stale_holder_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "o.db"

    async def play() -> None:
        async with a_ledger(path) as ledger:
            stale = await claimed(ledger)
            fresh = await ledger.next_attempt(
                stale, AttemptEnd(ended_ms=1, evidence="not_sent", status=None), START
            )
            assert fresh == structs.replace(stale, version=stale.version + 1)
            rows = dump(path)
            for late in (
                ledger.settle(stale, ENDED, end("placed", "up-1")),
                ledger.next_attempt(stale, ENDED, START),
                ledger.settle(Claimed(order_id="nobody", version=1), ENDED, end("placed")),
            ):
                with pytest.raises(LedgerStale):
                    await late
                assert dump(path) == rows
            await ledger.settle(fresh, ENDED, end("placed", "up-1"))
            rows = dump(path)
            with pytest.raises(LedgerStale):
                await ledger.settle(fresh, ENDED, end("rejected"))
            assert dump(path) == rows
            stored = await ledger.find(fresh.order_id, tenant_id=None)
            assert stored is not None and [kept.evidence for kept in stored.attempts] == ["not_sent", "answered"]

    asyncio.run(play())


def test_unknown_orders_are_not_settled_in_time_and_others_are(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            for outcome in FINAL:
                order = await claimed(ledger)
                await ledger.settle(order, ENDED, end(outcome))
                stored = await ledger.find(order.order_id, tenant_id=1)
                assert stored is not None
                assert stored.settled_ms == (None if outcome == "unknown" else ENDED.ended_ms)
            await claimed(ledger)
            assert await ledger.unsettled() == {"queued": 0, "in_flight": 1, "unknown": 1}

    asyncio.run(play())


def test_pages_go_from_new_to_old_and_keep_to_the_filter(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            ids = []
            for at in range(9):
                order = await claimed(ledger, new_order(None, tenant_id=1 + at % 2))
                ids.append(order.order_id)
                if at % 3 == 0:
                    await ledger.settle(order, ENDED, end("placed", f"up-{at}"))
            seen: list[str] = []
            before = None
            while page := await ledger.page(OrderFilter(limit=4, before_seq=before)):
                seen += [order.order_id for order in page]
                before = page[-1].seq
            assert seen == ids[::-1]
            mine = await ledger.page(OrderFilter(tenant_id=1, outcome="placed"))
            assert [order.upstream_order_id for order in mine] == ["up-6", "up-0"]
            assert {order.tenant for order in await ledger.page(OrderFilter(tenant="tenant-2"))} == {"tenant-2"}

    asyncio.run(play())


def test_a_body_names_what_is_placed_before_what_is_not(tmp_path: Path) -> None:
    """A later try of the same body under a key of its own, which came to nothing, hides no order that is there."""

    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            by_body = new_order(None, body=b"same", window_ms=300_000)
            there = await claimed(ledger, by_body)
            await ledger.settle(there, ENDED, end("placed", "up-1"))
            tried = await claimed(ledger, new_order("k2", body=b"same"))
            await ledger.settle(tried, ENDED, end("not_placed"))
            again = await ledger.claim(new_order(None, body=b"same", window_ms=300_000), START)
            assert isinstance(again, Known)
            assert again.order.order_id == there.order_id

    asyncio.run(play())


def test_what_is_tried_again_by_its_body_keeps_its_key(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            keyed = new_order("k", body=b"same")
            await ledger.settle(await claimed(ledger, keyed), ENDED, end("not_placed"))
            again = await claimed(ledger, new_order(None, body=b"same", window_ms=300_000))
            assert again.by_body
            assert again.key_digest == keyed.key_digest

    asyncio.run(play())
