"""An order that must wait for its turn: it is claimed, it is sent in its turn or not at all, and nobody is left."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.core.evidence import Evidence, NotSent
from gateway.core.lifecycle import Outcome
from gateway.errors import LedgerBusy
from gateway.flow.answer import Answer
from gateway.ledger.interface import OrderFilter
from tests.flow.flow_tools import BODY, OTHER_LANE, TENANT, Gateway, a_gateway, placed, said, until


async def _is_there(gateway: Gateway, outcome: Outcome) -> bool:
    return (await gateway.ledger.unsettled())[outcome] == 1


async def _waits(gateway: Gateway) -> "asyncio.Task[Answer]":
    """An order in line behind one that has the only place."""
    assert gateway.admission.enter_at_once(OTHER_LANE)
    waiting = asyncio.ensure_future(gateway.place("k"))
    await until(lambda: _is_there(gateway, "queued"))
    return waiting


def test_an_order_that_waits_is_claimed_first_and_sent_in_its_turn(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed(), max_in_flight=1) as gateway:
            waiting = await _waits(gateway)
            same = await gateway.place("k")
            assert (same.status, same.outcome) == (409, "in_flight")
            assert gateway.story == ["claim", "claim"]
            gateway.admission.leave()
            answer = await waiting
            assert answer.status == 201
            assert gateway.story == ["claim", "claim", "start", "send", "settle"]
            assert len((await gateway.only()).attempts) == 1

    asyncio.run(play())


async def _hangs_up(gateway: Gateway) -> None:
    gateway.gone.set()


async def _drains(gateway: Gateway) -> None:
    gateway.intake.begin_draining()


async def _loses_the_key(gateway: Gateway) -> None:
    gateway.keys.pop(TENANT.team_id)
    gateway.admission.leave()


async def _has_no_ledger(gateway: Gateway) -> None:
    gateway.ledger.refuses["start"] = [LedgerBusy("busy")]
    gateway.admission.leave()


async def _only_waits(gateway: Gateway) -> None:
    del gateway


@pytest.mark.parametrize(
    ("meanwhile", "cause", "status", "kind"),
    [
        (_hangs_up, "hung_up", None, "overloaded"),
        (_drains, "draining", 503, "draining"),
        (_loses_the_key, "no_key", 502, "upstream-credentials"),
        (_has_no_ledger, "no_ledger", 503, "ledger-unavailable"),
        (_only_waits, "overloaded", 503, "overloaded"),
    ],
)
def test_an_order_that_is_not_sent_is_not_placed_and_may_be_tried_again(
    tmp_path: Path, meanwhile: Callable[[Gateway], Awaitable[None]], cause: str, status: int | None, kind: str
) -> None:
    async def play() -> None:
        wait_s = 0.2 if meanwhile is _only_waits else 60
        async with a_gateway(tmp_path / "o.db", placed(), max_in_flight=1, wait_s=wait_s) as gateway:
            key = gateway.keys[TENANT.team_id]
            waiting = await _waits(gateway)
            await meanwhile(gateway)
            answer = await waiting
            problem = said(answer)
            assert problem["type"] == f"/problems/{kind}"
            assert (problem["outcome"], problem["retryable"]) == ("not_placed", True)
            stored = await gateway.only()
            assert problem["orderId"] == stored.order_id
            assert (stored.outcome, stored.cause, stored.http_status) == ("not_placed", cause, status)
            assert (stored.attempts, gateway.upstream.bodies) == ((), [])
            if cause == "draining":
                return
            gateway.keys[TENANT.team_id] = key
            if cause not in ("no_key", "no_ledger"):
                gateway.admission.leave()
            again = await gateway.place("k")
            assert (again.status, again.order_id) == (201, stored.order_id)

    asyncio.run(play())


def test_a_full_line_is_refused_at_once_and_nothing_is_claimed(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed(), max_in_flight=1, max_waiting=1) as gateway:
            waiting = await _waits(gateway)
            refused = await gateway.place("other", body=BODY.replace(b"1.50", b"2"))
            assert said(refused)["type"] == "/problems/overloaded"
            assert "orderId" not in said(refused)
            assert len(await gateway.ledger.page(OrderFilter())) == 1
            gateway.admission.leave()
            await waiting

    asyncio.run(play())


def test_every_wait_gives_its_place_back(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed("a"), placed("b"), max_in_flight=1) as gateway:
            waiting = await _waits(gateway)
            gateway.admission.leave()
            await waiting
            assert gateway.admission.enter_at_once(OTHER_LANE)
            gateway.admission.leave()

    asyncio.run(play())


def test_a_process_that_does_not_own_its_orders_sends_nothing(tmp_path: Path) -> None:
    """The flow asks directly before the first byte; the transport's own tests show that it heeds the answer."""

    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed()) as gateway:

            async def would_send(_body: bytes, *, may_send: Callable[[], bool], **_: object) -> Evidence:
                assert may_send()
                os.unlink(tmp_path / "o.db.owner")  # noqa: PTH108  # somebody tidies up
                return placed() if may_send() else NotSent(reason="too_late")

            gateway.upstream.place = would_send  # type: ignore[method-assign, assignment]  # OfferGrid, at this moment
            assert (await gateway.place()).outcome == "not_placed"

    asyncio.run(play())
