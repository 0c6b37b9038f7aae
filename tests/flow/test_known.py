"""What the ledger knows already is told as it is: with a key or by its body, and also where nothing new is taken."""

import asyncio
from pathlib import Path

import pytest

from gateway.core.evidence import NotSent, Sent
from gateway.errors import LedgerBusy
from gateway.flow.answer import Answer
from tests.flow.flow_tools import BODY, OTHER_LANE, TENANT, Gateway, a_gateway, answered, placed, said, until

UNKNOWN = Sent(reason="broken")
UNSENT = NotSent(reason="connect_refused")
SAME_BODY = b' { "n" : 15e-1 , "items" : [ ] } '


def test_the_same_body_without_a_key_is_the_same_order(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "l.db", placed("up-1"), placed("up-2"), implicit_window_s=300) as gateway:
            first = await gateway.place(None)
            again = await gateway.place(None, body=SAME_BODY, request_id="r-2")
            assert (again.status, again.body, again.order_id) == (201, first.body, first.order_id)
            assert ("ordergate-matched-by", "body") in again.headers
            assert ("idempotent-replayed", "true") in again.headers
            assert again.outcome == "replayed_by_body"
            assert len(gateway.upstream.bodies) == 1
            with_key = await gateway.place("a new key")
            assert with_key.order_id != first.order_id, "a request with a new key is always a new order"

    asyncio.run(play())


def test_a_keyed_orders_body_is_known_to_who_has_no_key(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "l.db", UNKNOWN, implicit_window_s=0) as gateway:
            first = await gateway.place("k")
            again = await gateway.place(None)
            assert (again.status, said(again)["outcome"], again.order_id) == (502, "unknown", first.order_id)
            assert ("ordergate-matched-by", "body") in again.headers
            assert len(gateway.upstream.bodies) == 1

    asyncio.run(play())


def test_a_window_of_nothing_forgets_settled_orders_and_keeps_unsettled_ones(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "l.db", placed("up-1"), UNKNOWN, implicit_window_s=0) as gateway:
            first, second = await gateway.place(None), await gateway.place(None)
            assert first.order_id != second.order_id
            third = await gateway.place(None)
            assert third.order_id == second.order_id
            assert len(gateway.upstream.bodies) == 2

    asyncio.run(play())


def test_a_body_that_was_not_placed_is_tried_again_under_its_id(tmp_path: Path) -> None:
    async def play() -> None:
        lines = [UNSENT] * 3 + [placed("up-1")]
        async with a_gateway(tmp_path / "l.db", *lines, implicit_window_s=300) as gateway:
            first = await gateway.place(None)
            again = await gateway.place(None)
            assert (first.status, again.status, again.order_id) == (503, 201, first.order_id)
            assert ("ordergate-matched-by", "body") in again.headers

    asyncio.run(play())


def test_another_tenants_body_is_another_order(tmp_path: Path) -> None:
    from msgspec import structs

    async def play() -> None:
        other = structs.replace(TENANT, tenant_id=8, name="other")
        async with a_gateway(tmp_path / "l.db", placed("up-1"), placed("up-2"), implicit_window_s=300) as gateway:
            mine = await gateway.place(None)
            theirs = await gateway.place(None, tenant=other)
            assert mine.order_id != theirs.order_id

    asyncio.run(play())


def test_a_tenants_own_window_counts(tmp_path: Path) -> None:
    from msgspec import structs

    async def play() -> None:
        off = structs.replace(TENANT, implicit_window_s=0)
        async with a_gateway(tmp_path / "l.db", placed("up-1"), placed("up-2"), implicit_window_s=300) as gateway:
            first = await gateway.place(None, tenant=off)
            assert (await gateway.place(None, tenant=off)).order_id != first.order_id

    asyncio.run(play())


async def _drain(gateway: Gateway) -> None:
    gateway.intake.begin_draining()


async def _take_the_key_away(gateway: Gateway) -> None:
    gateway.keys.clear()


async def _take_all_places(gateway: Gateway) -> None:
    assert gateway.admission.enter_at_once(OTHER_LANE)


async def _take_no_writes(gateway: Gateway) -> None:
    gateway.ledger.refuses["claim"] = [LedgerBusy("busy") for _again in range(3)]


@pytest.mark.parametrize("shortage", [_drain, _take_the_key_away, _take_all_places, _take_no_writes])
@pytest.mark.parametrize("key", ["k", None])
def test_what_is_placed_is_never_called_not_placed(tmp_path: Path, shortage: object, key: str | None) -> None:
    """A shortage says something of this request only; the order that it asks about stands as it was."""

    async def play() -> None:
        async with a_gateway(
            tmp_path / "l.db", placed("up-1"), max_in_flight=1, max_waiting=0, implicit_window_s=300
        ) as gateway:
            first = await gateway.place(key)
            await shortage(gateway)  # type: ignore[operator]  # one of the three above
            again = await gateway.place(key)
            assert (again.status, again.body) == (201, first.body)
            new = await gateway.place("new", body=BODY.replace(b"1.50", b"2"))
            assert new.status in (502, 503)
            assert said(new)["outcome"] == "not_placed"
            assert "orderId" not in said(new)

    asyncio.run(play())


def test_the_same_key_of_a_running_order_is_409_also_where_no_place_is_free(tmp_path: Path) -> None:
    async def play() -> None:
        go = asyncio.Event()

        async def slowly() -> object:
            await go.wait()
            return placed("up-1")

        async with a_gateway(tmp_path / "l.db", slowly, max_in_flight=1, max_waiting=0) as gateway:  # type: ignore[arg-type]  # evidence, later
            running = asyncio.ensure_future(gateway.place("k"))

            async def sent() -> bool:
                return bool(gateway.upstream.bodies)

            await until(sent)
            answer: Answer = await gateway.place("k")
            assert (answer.status, said(answer)["outcome"]) == (409, "in_flight")
            go.set()
            assert (await running).status == 201

    asyncio.run(play())


def test_a_rejected_order_is_told_again_by_its_body(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "l.db", answered(422), implicit_window_s=300) as gateway:
            first, again = await gateway.place(None), await gateway.place(None, request_id="r-2")
            assert (again.status, again.body) == (422, first.body)
            assert len(gateway.upstream.bodies) == 1

    asyncio.run(play())
