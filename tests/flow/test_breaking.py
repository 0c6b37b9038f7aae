"""OfferGrid left alone: nothing is claimed or sent, what is known is told, and a read decides about going on."""

import asyncio
import json
from pathlib import Path

from gateway.core.breaker import Breaker
from gateway.core.evidence import Answered, Evidence, NotSent, Sent
from gateway.core.outcome import classify
from gateway.flow.answer import Answer
from gateway.ledger.interface import OrderFilter
from tests.flow.flow_tools import BODY, OTHER_LANE, Gateway, a_gateway, placed, said

REFUSED = NotSent(reason="tls")


def _is_left_alone(answer: Answer) -> None:
    problem = said(answer)
    assert (answer.status, problem["type"]) == (503, "/problems/upstream-unavailable")
    assert (problem["outcome"], problem["retryable"]) == ("not_placed", True)
    assert "orderId" not in problem
    assert int(dict(answer.headers)["retry-after"]) >= 1


def _another(gateway: Gateway, at: int) -> "asyncio.Task[Answer]":
    return asyncio.ensure_future(gateway.place(f"n{at}", body=BODY.replace(b"1.50", b"%d" % at)))


def test_an_open_breaker_claims_and_sends_nothing_but_tells_what_is_known(tmp_path: Path) -> None:
    async def play() -> None:
        breaker = Breaker(failures=1, open_s=1000)
        async with a_gateway(tmp_path / "o.db", placed(), Sent(reason="broken"), breaker=breaker) as gateway:
            first = await gateway.place("k")
            assert (await _another(gateway, 1)).outcome == "unknown"
            story = list(gateway.story)
            _is_left_alone(await _another(gateway, 2))
            assert gateway.story == story
            assert len(await gateway.ledger.page(OrderFilter())) == 2
            again = await gateway.place("k")
            assert (again.status, again.body, again.outcome) == (201, first.body, "replayed")
            assert (await _another(gateway, 1)).outcome == "unknown", "told, not refused"

    asyncio.run(play())


def test_half_open_a_read_decides_and_not_an_order(tmp_path: Path) -> None:
    async def play() -> None:
        breaker = Breaker(failures=1, open_s=0)
        looks: list[Evidence] = [Sent(reason="timeout"), REFUSED, Answered(status=404, body=b"{}")]
        async with a_gateway(tmp_path / "o.db", Sent(reason="broken"), placed(), breaker=breaker) as gateway:
            gateway.upstream.looks = looks
            await _another(gateway, 0)
            gateway.story.clear()
            for at in (1, 2):
                _is_left_alone(await _another(gateway, at))
            assert gateway.story == ["look", "look"]
            assert (await _another(gateway, 3)).status == 201
            assert (await _another(gateway, 4)).status != 503
            assert gateway.story.count("look") == 3, "closed"

    asyncio.run(play())


def test_many_at_once_look_once(tmp_path: Path) -> None:
    async def play() -> None:
        breaker = Breaker(failures=1, open_s=0.2)
        async with a_gateway(
            tmp_path / "o.db", Sent(reason="broken"), Sent(reason="broken"), breaker=breaker
        ) as gateway:
            await _another(gateway, 0)
            gateway.upstream.looks = [Answered(status=500, body=b"")]
            while breaker.opens_in(asyncio.get_running_loop().time()):  # noqa: ASYNC110 - time itself is waited for
                await asyncio.sleep(0.01)
            answers = await asyncio.gather(*(_another(gateway, at) for at in range(1, 30)))
            assert sum(answer.outcome == "unknown" for answer in answers) == 1, "a 5xx lets one order through"
            assert len(gateway.upstream.bodies) == 2

    asyncio.run(play())


def test_an_order_that_waited_is_withdrawn_where_the_breaker_opened_meanwhile(tmp_path: Path) -> None:
    async def play() -> None:
        breaker = Breaker(failures=1, open_s=1000)
        async with a_gateway(tmp_path / "o.db", placed(), breaker=breaker, max_in_flight=1) as gateway:
            assert gateway.admission.enter_at_once(OTHER_LANE)
            waiting = _another(gateway, 1)
            while not (await gateway.ledger.unsettled())["queued"]:  # noqa: ASYNC110 - it stands in a file
                await asyncio.sleep(0.005)
            breaker.attempted(REFUSED, classify(REFUSED), asyncio.get_running_loop().time())
            gateway.admission.leave()
            problem = json.loads((await waiting).body)
            assert (problem["type"], problem["outcome"]) == ("/problems/upstream-unavailable", "not_placed")
            stored = await gateway.only()
            assert (stored.outcome, stored.cause, stored.attempts) == ("not_placed", "breaker", ())

    asyncio.run(play())
