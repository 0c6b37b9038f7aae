"""Directly before the first byte: an order whose time is past stays here. And how an answer is read."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.clock import SystemClock
from gateway.core import outcome
from gateway.core.breaker import Breaker
from gateway.core.evidence import Evidence, NotSent
from gateway.core.outcome import parsed
from gateway.flow.intake import Intake
from gateway.flow.ports import OrderRequest
from gateway.flow.sending import LARGE_ANSWER_BYTES, Sender
from gateway.ledger.interface import Claimed, Ledger
from gateway.telemetry.metrics import Metrics, OrderTimes
from tests.flow.flow_tools import KEY, TENANT, a_gateway, answered, placed

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
    judged = asyncio.run(sender.send_until_known(hand, b"{}"))
    assert judged.evidence == (placed() if sent else NotSent(reason="too_late"))


@pytest.mark.parametrize(("length", "beside"), [(LARGE_ANSWER_BYTES, False), (LARGE_ANSWER_BYTES + 1, True)])
@pytest.mark.parametrize("status", [201, 422, 429])
def test_an_answer_is_read_once_and_a_large_one_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, length: int, beside: bool
) -> None:
    body = b'{"orderId":"up-1","status":"pending","more":"'
    body += b"." * (length - len(body) - 2) + b'"}'
    read_by: list[str] = []

    def noted(text: bytes) -> Any:
        read_by.append(threading.current_thread().name)
        return parsed(text)

    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", answered(status, body, "3600")) as gateway:
            with monkeypatch.context() as patch:
                patch.setattr(outcome, "parsed", noted)
                answer = await gateway.place()
            assert answer.outcome == {201: "placed", 422: "rejected", 429: "not_placed"}[status]
            stored = await gateway.only()
            assert stored.response == body
            assert stored.upstream_status == ("pending" if status == 201 else None)
            if status != 201:
                assert json.loads(answer.body)["upstream"] == {"status": status, "body": json.loads(body)}

    asyncio.run(play())
    assert [name.startswith("answer-reader") for name in read_by] == [beside]
