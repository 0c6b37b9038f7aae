"""Directly before the first byte: an order whose time is past stays here."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from gateway.clock import SystemClock
from gateway.core.breaker import Breaker
from gateway.core.evidence import Evidence, NotSent
from gateway.flow.intake import Intake
from gateway.flow.ports import OrderRequest
from gateway.flow.sending import Sender
from gateway.ledger.interface import Claimed, Ledger
from gateway.telemetry.metrics import Metrics, OrderTimes
from tests.flow.flow_tools import KEY, TENANT, placed

TIMEOUT_S = 10


class Stopped(SystemClock):
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Owns:
    def owns(self) -> bool:
        return True


class Asks:
    """An OfferGrid that asks for leave as the transport does, when a pause in this process is over."""

    def __init__(self, clock: Stopped, pause_s: float) -> None:
        self._clock = clock
        self._pause_s = pause_s

    async def place(self, _body: bytes, *, may_send: Callable[[], bool], **_: object) -> Evidence:
        self._clock.now += self._pause_s
        return placed() if may_send() else NotSent(reason="too_late")


@pytest.mark.parametrize(("pause_s", "sent"), [(TIMEOUT_S / 2 - 0.001, True), (TIMEOUT_S / 2, False)])
def test_past_its_time_an_order_is_not_sent(pause_s: float, sent: bool) -> None:
    """Half of the time is OfferGrid's, to answer in: who wakes up later than that sends nothing."""
    clock = Stopped()
    sender = Sender(
        ledger=cast("Ledger", Owns()), upstream=cast("Any", Asks(clock, pause_s)), keys=cast("Any", None),
        breaker=Breaker(failures=1000, open_s=1000), intake=Intake(), clock=clock,
        metrics=Metrics(version="0", spec_digest="0"), log=cast("Any", None), timeout_s=TIMEOUT_S,
    )  # fmt: skip
    request = OrderRequest(
        tenant=TENANT, body=cast("Any", None), content=b"", idempotency_key=None, request_id="r-1",
        traceparent="", received_ms=0, hung_up=cast("Any", None),
    )  # fmt: skip
    hand = sender.in_hand(Claimed(order_id="o-1", version=1), request, KEY, OrderTimes(), clock.monotonic())
    evidence = asyncio.run(sender.send_until_known(hand, b"{}"))
    assert evidence == (placed() if sent else NotSent(reason="too_late"))
