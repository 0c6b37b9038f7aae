"""The life of one order: durable before sent, durable before told, and never sent twice in doubt."""

import asyncio
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from gateway.broker.admission import Admission
from gateway.broker.directory import KeyUnreadable
from gateway.core.evidence import Answered, Evidence, NotSent, Sent
from gateway.core.lifecycle import Outcome
from gateway.errors import IdempotencyKeyReused, LedgerBusy, LedgerError, LedgerOverloaded, LedgerUndecided
from gateway.flow import describe, sending, settle
from gateway.flow.answer import Answer
from gateway.ledger.interface import OrderFilter
from tests.flow.flow_tools import (
    BODY,
    KEY,
    OTHER_LANE,
    TENANT,
    Gateway,
    Line,
    a_gateway,
    answered,
    placed,
    said,
    until,
)
from tests.ledger.ledger_tools import alter

HTML = b"<html>no</html>"


def test_the_claim_is_durable_before_sending_and_the_end_before_telling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "SETTLE_WITHIN_S", 60)

    async def play() -> None:
        seen: list[str] = []

        async def looks() -> Evidence:
            seen.append((await gateway.only()).outcome)
            return placed()

        async with a_gateway(tmp_path / "o.db", looks) as gateway:
            gateway.ledger.gate.clear()
            telling = asyncio.ensure_future(gateway.place())
            await until(lambda: _is(bool(seen) or telling.done()))
            assert gateway.story == ["claim", "send"]
            assert seen == ["in_flight"] and not telling.done()
            gateway.ledger.gate.set()
            answer = await telling
            assert gateway.story == ["claim", "send", "settle"]
            assert (answer.status, answer.body) == (201, b'{"orderId": "up-1"}')
            assert (await gateway.stored(answer.order_id)).outcome == "placed"

    asyncio.run(play())


async def _is(holds: bool) -> bool:
    return holds


def test_what_is_sent_is_the_tenants_body_with_metadata(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed()) as gateway:
            answer = await gateway.place(body=b'{"items":[],"metadata":{"test":false,"own":1}}')
            await gateway.place(None, request_id="r-2")
            (first, second) = gateway.upstream.bodies
            metadata = first["metadata"]
            assert list(metadata)[:2] == ["test", "own"]
            assert (metadata["test"], metadata["own"], metadata["channel"]) == (True, 1, "web")
            assert metadata["gatewayOrderId"] == answer.order_id
            assert (metadata["gatewayTenant"], metadata["gatewayRequestId"]) == ("shop", "r-1")
            assert (metadata["gatewayReceivedAt"], metadata["gatewayLedger"]) == (
                "2026-01-02T03:04:05.678Z",
                "ledger-1",
            )
            key, body = metadata["gatewayClaim"].split(".")
            assert (len(key), len(body)) == (64, 64)
            assert second["metadata"]["gatewayClaim"].startswith("."), "no key, no mark of one"
            assert all(shown is KEY.secret for shown in gateway.upstream.keys)

    asyncio.run(play())


ENDS: list[tuple[Line, int, str, Outcome, bool, str | None]] = [
    (placed(), 201, "", "placed", False, None),
    (answered(200, b'{"orderId":"x","n":1e999}'), 201, "", "placed", False, None),
    (answered(400), 400, "order-rejected", "rejected", False, None),
    (answered(404), 404, "order-rejected", "rejected", False, None),
    (answered(422, b"{}"), 422, "order-rejected", "rejected", False, None),
    (answered(401), 502, "upstream-credentials", "not_placed", True, "60"),
    (answered(401, b""), 502, "upstream-credentials", "not_placed", True, "60"),
    (answered(403), 502, "upstream-credentials", "not_placed", True, "60"),
    (answered(429, retry_after="3600"), 429, "upstream-throttled", "not_placed", True, "3600"),
    (answered(429, b"", "1" + "0" * 30), 429, "upstream-throttled", "not_placed", True, "3600"),
    (NotSent(reason="too_late"), 503, "upstream-unavailable", "not_placed", True, "1"),
    (NotSent(reason="connect_refused"), 503, "upstream-unavailable", "not_placed", True, "1"),
    (Sent(reason="timeout"), 504, "outcome-unknown", "unknown", True, "5"),
    (Sent(reason="broken"), 502, "outcome-unknown", "unknown", True, "5"),
    *((answered(status), 502, "outcome-unknown", "unknown", True, "5") for status in (101, 302, 408, 500, 503)),
    *((answered(status, HTML), 502, "outcome-unknown", "unknown", True, "5") for status in (401, 403, 404, 429)),
    (answered(201, b'{"orderId":5}'), 502, "outcome-unknown", "unknown", True, "5"),
    (answered(201, b'{"orderId":"\\ud800"}'), 502, "outcome-unknown", "unknown", True, "5"),
    (answered(201, b""), 502, "outcome-unknown", "unknown", True, "5"),
]


@pytest.mark.parametrize(
    ("line", "status", "kind", "outcome", "retryable", "retry"), ENDS, ids=lambda part: str(part)[:60]
)
def test_each_evidence_has_its_answer_and_its_second_answer(
    tmp_path: Path, line: Line, status: int, kind: str, outcome: Outcome, retryable: bool, retry: str | None
) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", line) as gateway:
            answer = await gateway.place(request_id="first")
            headers = dict(answer.headers)
            assert (answer.status, answer.outcome, headers.pop("retry-after", None)) == (status, outcome, retry)
            assert headers == {}
            stored = await gateway.stored(answer.order_id)
            assert (stored.outcome, stored.http_status) == (outcome, status)
            assert all(attempt.ended_ms is not None for attempt in stored.attempts)
            assert len(stored.attempts) == len(gateway.upstream.bodies)
            if kind:
                _is_problem(answer, line, status, kind, outcome, retryable)
            else:
                assert answer.content_type == "application/json" and answer.body == stored.response
            sent = len(gateway.upstream.bodies)
            again = await gateway.place(request_id="second")
            assert again.order_id == answer.order_id
            if outcome == "not_placed":
                assert len(gateway.upstream.bodies) > sent, "tried again, under the same id"
                return
            assert len(gateway.upstream.bodies) == sent, "nothing is sent for what is known or in doubt"
            assert (again.status, again.body, again.content_type) == (
                answer.status,
                answer.body,
                answer.content_type,
            )
            if outcome == "unknown":
                assert (again.outcome, dict(again.headers)) == ("unknown", {"retry-after": "5"})
            else:
                assert (again.outcome, dict(again.headers)) == ("replayed", {"idempotent-replayed": "true"})

    asyncio.run(play())


def _is_problem(answer: Answer, line: Line, status: int, kind: str, outcome: Outcome, retryable: bool) -> None:
    problem = said(answer)
    assert answer.content_type == "application/problem+json"
    assert (problem["type"], problem["status"]) == (f"/problems/{kind}", status)
    assert (problem["outcome"], problem["retryable"]) == (outcome, retryable)
    assert (problem["orderId"], problem["requestId"]) == (answer.order_id, "first")
    if isinstance(line, NotSent | Sent):
        assert "upstream" not in problem
    elif isinstance(line, Answered):
        assert problem["upstream"]["status"] == line.status


def test_an_order_status_that_cannot_be_written_down_hurts_no_placed_order(tmp_path: Path) -> None:
    async def play() -> None:
        bodies = [
            b'{"orderId":"a","status":"\\ud800"}',
            b'{"orderId":"b","status":5}',
            b'{"orderId":"c","status":"pending"}',
        ]
        async with a_gateway(tmp_path / "o.db", *(answered(201, body) for body in bodies)) as gateway:
            found = []
            for body in bodies:
                answer = await gateway.place(None)
                assert (answer.status, answer.body) == (201, body)
                found.append((await gateway.stored(answer.order_id)).upstream_status)
            assert found == [None, None, "pending"]

    asyncio.run(play())


def test_unsent_orders_are_sent_again_and_each_attempt_is_durable_first(tmp_path: Path) -> None:
    async def play() -> None:
        refused = NotSent(reason="connect_refused")
        async with a_gateway(tmp_path / "o.db", refused, answered(429, b"", "0"), placed()) as gateway:
            answer = await gateway.place()
            assert answer.status == 201
            assert gateway.story == ["claim", "send", "next", "send", "next", "send", "settle"]
            stored = await gateway.stored(answer.order_id)
            assert [attempt.evidence for attempt in stored.attempts] == ["not_sent", "answered", "answered"]
            assert [attempt.status for attempt in stored.attempts] == [None, 429, 201]
            ids = {body["metadata"]["gatewayOrderId"] for body in gateway.upstream.bodies}
            assert ids == {answer.order_id}

    asyncio.run(play())


def test_a_further_attempt_that_cannot_be_written_down_is_not_sent(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", NotSent(reason="tls"), placed()) as gateway:
            gateway.ledger.refuses["next"] = [LedgerBusy("busy")]
            answer = await gateway.place()
            assert (answer.status, answer.outcome) == (503, "not_placed")
            assert gateway.story == ["claim", "send", "settle"]

    asyncio.run(play())


def test_what_is_not_placed_is_tried_again_under_the_same_id(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", NotSent(reason="too_late"), placed()) as gateway:
            first = await gateway.place()
            second = await gateway.place()
            assert (first.status, second.status) == (503, 201)
            assert first.order_id == second.order_id
            assert (await gateway.place()).outcome == "replayed"

    asyncio.run(play())


def test_the_same_key_with_another_body_is_refused(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed()) as gateway:
            await gateway.place(body=BODY)
            with pytest.raises(IdempotencyKeyReused):
                await gateway.place(body=b'{"items":[],"n":1.51}')
            same = await gateway.place(body=b' { "n" : 15e-1, "\\u0069tems" : [ ] } ')
            assert same.outcome == "replayed"
            assert len(gateway.upstream.bodies) == 1

    asyncio.run(play())


def test_the_same_key_in_flight_is_a_409_and_sends_nothing(tmp_path: Path) -> None:
    async def play() -> None:
        go = asyncio.Event()

        async def waits() -> Evidence:
            await go.wait()
            return placed()

        async with a_gateway(tmp_path / "o.db", waits) as gateway:
            first = asyncio.ensure_future(gateway.place())
            await until(lambda: _is("send" in gateway.story))
            second = await gateway.place(request_id="second")
            problem = said(second)
            assert (second.status, second.outcome, dict(second.headers)) == (409, "in_flight", {"retry-after": "1"})
            assert (problem["type"], problem["outcome"], problem["retryable"]) == (
                "/problems/order-in-flight", "in_flight", True,
            )  # fmt: skip
            go.set()
            assert second.order_id == (await first).order_id
            assert len(gateway.upstream.bodies) == 1

    asyncio.run(play())


def test_50_at_once_with_one_key_send_once(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed(), max_in_flight=50, max_waiting=50) as gateway:
            found = await asyncio.gather(*(gateway.place() for _ in range(50)))
            assert len(gateway.upstream.bodies) == 1
            assert sorted({answer.status for answer in found}) in ([201], [201, 409])
            assert sum(answer.outcome == "placed" for answer in found) == 1

    asyncio.run(play())


def test_hanging_up_changes_nothing_for_an_order_in_flight(tmp_path: Path) -> None:
    async def play() -> None:
        go = asyncio.Event()

        async def waits() -> Evidence:
            await go.wait()
            return placed()

        async with a_gateway(tmp_path / "o.db", waits) as gateway:
            waiting = asyncio.ensure_future(gateway.place())
            await until(lambda: _is("send" in gateway.story))
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert len(gateway.intake) == 1
            go.set()
            assert await gateway.intake.drain(30) == 0
            assert (await gateway.only()).outcome == "placed"
            assert (await gateway.place()).outcome == "replayed"

    asyncio.run(play())


@pytest.mark.parametrize(
    ("room", "where", "outcome", "sent"),
    [
        (describe, "enriched", "not_placed", 0),
        (sending, "pause_before_resend", "unknown", 1),
        (sending, "judged", "unknown", 1),
    ],
)
def test_a_defect_says_what_is_known_and_leaves_nothing_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: ModuleType, where: str, outcome: Outcome, sent: int
) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("canary of a defect")

    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed()) as gateway:
            with monkeypatch.context() as patch:
                patch.setattr(room, where, broken)
                answer = await gateway.place()
            _is_defect(gateway, answer, outcome)
            assert (await gateway.stored(answer.order_id)).outcome == outcome
            assert len(gateway.upstream.bodies) == sent
            again = await gateway.place()
            assert again.status == (201 if outcome == "not_placed" else 502)
            assert again.order_id == answer.order_id
            assert len(gateway.upstream.bodies) == 1, "never sent again in doubt"

    asyncio.run(play())


def test_a_defect_after_the_end_does_not_deny_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: object) -> None:
        raise MemoryError

    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed()) as gateway:
            with monkeypatch.context() as patch:
                patch.setattr(Admission, "leave", broken)
                answer = await gateway.place()
            assert (answer.status, answer.outcome) == (201, "replayed")
            assert len(gateway.upstream.bodies) == 1

    asyncio.run(play())


def _is_defect(gateway: Gateway, answer: Answer, outcome: Outcome) -> None:
    problem = said(answer)
    assert (answer.status, answer.outcome) == (500, outcome)
    assert (problem["type"], problem["outcome"], problem["retryable"]) == (
        "/problems/internal-error",
        outcome,
        True,
    )
    assert "canary" not in answer.body.decode()
    events = [json.loads(line) for line in gateway.log.getvalue().splitlines()]
    assert any(event["event"] == "defect" and event["order_id"] == answer.order_id for event in events)
    assert "canary" not in gateway.log.getvalue()


@pytest.mark.parametrize("lines", [[RuntimeError("x")], [NotSent(reason="tls"), RuntimeError("x")]])
def test_a_defect_while_sending_is_unknown_at_whatever_attempt(tmp_path: Path, lines: list[Line]) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", *lines) as gateway:
            answer = await gateway.place()
            _is_defect(gateway, answer, "unknown")
            stored = await gateway.stored(answer.order_id)
            assert stored.outcome == "unknown"
            assert len(stored.attempts) == len(lines)

    asyncio.run(play())


def test_a_defect_in_settling_is_unknown_and_not_in_flight(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed()) as gateway:
            gateway.ledger.refuses["settle"] = [RuntimeError("x")]
            answer = await gateway.place()
            _is_defect(gateway, answer, "unknown")
            assert (await gateway.stored(answer.order_id)).outcome == "unknown"

    asyncio.run(play())


def test_an_answer_that_is_not_durable_in_time_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "SETTLE_WITHIN_S", 0.05)

    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed()) as gateway:
            gateway.ledger.gate.clear()
            answer = await gateway.place()
            problem = said(answer)
            assert (answer.status, answer.outcome, dict(answer.headers)) == (502, "unknown", {"retry-after": "5"})
            assert (problem["type"], problem["outcome"]) == ("/problems/outcome-unknown", "unknown")
            assert "upstream" not in problem and b"up-1" not in answer.body
            assert (await gateway.place()).status == 409
            gateway.ledger.gate.set()
            await until(lambda: _settled(gateway, answer))
            late = await gateway.place()
            assert (late.status, late.outcome) == (201, "replayed"), "it came through after all"
            assert len(gateway.upstream.bodies) == 1

    asyncio.run(play())


async def _settled(gateway: Gateway, answer: Answer) -> bool:
    return (await gateway.stored(answer.order_id)).outcome != "in_flight"


def test_an_end_that_the_ledger_refuses_is_written_once_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "SETTLE_AGAIN_S", 0.01)

    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed()) as gateway:
            gateway.ledger.refuses["settle"] = [LedgerError("full"), LedgerBusy("busy"), LedgerOverloaded("many")]
            assert (await gateway.place()).status == 201
            monkeypatch.setattr(settle, "SETTLE_WITHIN_S", 0.05)
            gateway.ledger.refuses["settle"] = [LedgerError("full") for _ in range(20)]
            answer = await gateway.place("other", body=b'{"o":1}')
            assert (answer.status, answer.outcome) == (502, "unknown")
            await until(lambda: _settled(gateway, answer))
            # The first order has this upstream id already: this one's answer proves nothing.
            assert (await gateway.stored(answer.order_id)).outcome == "unknown"

    asyncio.run(play())


def test_an_undecided_end_is_unknown_and_not_written_again(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed()) as gateway:
            gateway.ledger.refuses["settle"] = [LedgerUndecided("?"), RuntimeError("never asked again")]
            answer = await gateway.place()
            assert (answer.status, answer.outcome) == (502, "unknown")
            assert len(gateway.ledger.refuses["settle"]) == 1

    asyncio.run(play())


def test_an_answer_with_another_orders_id_is_unknown(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed("up-1")) as gateway:
            first, second = [await gateway.place(None, body=body) for body in (b'{"a":1}', b'{"a":2}')]
            assert (first.status, second.status, second.outcome) == (201, 502, "unknown")
            stored = await gateway.stored(second.order_id)
            assert (stored.outcome, stored.cause, stored.upstream_order_id) == ("unknown", "unusable_answer", None)

    asyncio.run(play())


REFUSALS: list[tuple[Exception, str]] = [
    (LedgerError("no"), "ledger-unavailable"),
    (LedgerBusy("no"), "ledger-unavailable"),
    (LedgerUndecided("no"), "ledger-unavailable"),
    (LedgerOverloaded("no"), "overloaded"),
]


@pytest.mark.parametrize(("fault", "kind"), REFUSALS, ids=lambda part: type(part).__name__)
def test_without_a_claim_nothing_is_sent(tmp_path: Path, fault: Exception, kind: str) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed()) as gateway:
            gateway.ledger.refuses["claim"] = [fault]
            answer = await gateway.place()
            _is_refused(answer, 503, kind, "1")
            assert gateway.story == []
            assert (await gateway.place()).status == 201, "the place was given back, and the key binds nothing"

    asyncio.run(play())


def _is_refused(answer: Answer, status: int, kind: str, retry: str) -> None:
    problem = said(answer)
    assert (answer.status, answer.outcome, dict(answer.headers)) == (status, "not_placed", {"retry-after": retry})
    assert (problem["type"], problem["outcome"], problem["retryable"]) == (f"/problems/{kind}", "not_placed", True)
    assert "orderId" not in problem and answer.order_id is None


@pytest.mark.parametrize("key", [None, KeyUnreadable(key_id="key-1")])
def test_without_a_key_nothing_is_claimed_or_sent(tmp_path: Path, key: KeyUnreadable | None) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed()) as gateway:
            gateway.keys.pop(TENANT.team_id)
            if key:
                gateway.keys[TENANT.team_id] = key
            _is_refused(await gateway.place(), 502, "upstream-credentials", "60")
            assert gateway.story == []
            assert not await gateway.ledger.page(OrderFilter())

    asyncio.run(play())


def test_in_quarantine_nothing_is_claimed_or_sent(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed()) as gateway:
            gateway.intake.quarantined = True
            _is_refused(await gateway.place(), 503, "ledger-unavailable", "30")
            assert gateway.story == []
            assert not await gateway.ledger.page(OrderFilter())
            gateway.intake.quarantined = False
            assert (await gateway.place()).status == 201

    asyncio.run(play())


def test_without_a_place_nothing_is_claimed_or_sent(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed(), max_in_flight=1, max_waiting=0) as gateway:
            assert gateway.admission.enter_at_once(OTHER_LANE)
            _is_refused(await gateway.place(), 503, "overloaded", "1")
            assert gateway.story == []
            gateway.admission.leave()
            assert (await gateway.place()).status == 201

    asyncio.run(play())


def test_every_end_gives_its_place_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        lines: list[Line] = [placed("a"), Sent(reason="timeout"), RuntimeError("x"), answered(400), placed("b")]
        async with a_gateway(tmp_path / "o.db", *lines, max_in_flight=1, max_waiting=0) as gateway:
            bodies = [BODY.replace(b"1.50", b"%d" % at) for at in range(len(lines))]
            statuses = [(await gateway.place(None, body=body)).status for body in bodies]
            assert statuses == [201, 504, 500, 400, 201]

    asyncio.run(play())


def test_a_recovered_order_is_unknown_and_not_sent(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed()) as gateway:
            gateway.ledger.refuses["settle"] = [LedgerUndecided("as a process that died here")]
            first = await gateway.place()
            alter(gateway.path, "UPDATE orders SET owner = 0")  # it died
            assert await gateway.ledger.recover(tuple) == (1, 0)
            for _again in range(2):
                answer = await gateway.place()
                assert (answer.status, answer.outcome, answer.order_id) == (502, "unknown", first.order_id)
                assert dict(answer.headers) == {"retry-after": "5"}
            assert len(gateway.upstream.bodies) == 1

    asyncio.run(play())


@pytest.mark.parametrize(("fails", "outcome"), [("settle", "unknown"), ("start", "not_placed")])
def test_an_order_that_nobody_here_has_in_hand_any_more_is_recovered(
    tmp_path: Path, fails: str, outcome: str
) -> None:
    """What was to end it failed in a way that nobody foresaw, again and again: its process lives on, and it ends."""

    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed(), max_in_flight=1, wait_s=60) as gateway:
            assert gateway.admission.enter_at_once(OTHER_LANE)  # it waits for its place
            gateway.ledger.refuses[fails] = [RuntimeError("x")] * 3
            placing = asyncio.ensure_future(gateway.place())
            while "claim" not in gateway.story:  # noqa: ASYNC110 - the story is a list
                await asyncio.sleep(0)
            assert await gateway.ledger.recover(gateway.intake.in_hand) == (0, 0), "it waits"
            gateway.admission.leave()
            assert (await placing).status in (409, 500)
            assert await gateway.ledger.recover(gateway.intake.in_hand) == ((1, 0) if fails == "settle" else (0, 1))
            assert (await gateway.only()).outcome == outcome
            assert await gateway.ledger.recover(gateway.intake.in_hand) == (0, 0)

    asyncio.run(play())


def test_an_order_in_hand_is_not_recovered_at_any_step(tmp_path: Path) -> None:
    """Nor one whose end goes on being written after its tenant was told that it is unknown."""

    async def play() -> None:
        async def recovering() -> Answered:
            assert await gateway.ledger.recover(gateway.intake.in_hand) == (0, 0)
            return placed()

        async with a_gateway(tmp_path / "o.db", recovering) as gateway:
            gateway.ledger.gate.clear()
            answer = await gateway.place()
            assert (answer.status, answer.outcome) == (502, "unknown")
            assert await gateway.ledger.recover(gateway.intake.in_hand) == (0, 0)
            gateway.ledger.gate.set()
            await gateway.intake.drain(30)
            assert (await gateway.only()).outcome == "placed"

    asyncio.run(play())


def test_tenants_do_not_share_keys(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", placed("a"), placed("b")) as gateway:
            other = msgspec.structs.replace(TENANT, tenant_id=8, name="other")
            one, two = await gateway.place("k"), await gateway.place("k", tenant=other)
            assert (one.status, two.status) == (201, 201) and one.order_id != two.order_id

    asyncio.run(play())
