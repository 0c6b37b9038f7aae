"""The breaker: what opens it, who looks, and that one order at most goes out in doubt."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.breaker import CLOSED, HALF_OPEN, OPEN, Breaker
from gateway.core.evidence import Answered, Evidence, NotSent, NotSentReason, Sent
from gateway.core.outcome import classify

PLACED = Answered(status=201, body=b'{"orderId":"up"}')
USABLE: list[Evidence] = [
    PLACED,
    *(Answered(status=status, body=b'{"message":"no"}') for status in (400, 401, 403, 404, 422, 429)),
]
OURS = ("too_late", "no_connection", "no_budget", "defect")
FAILED: list[Evidence] = [
    *(NotSent(reason=reason) for reason in get_args(NotSentReason) if reason not in OURS),
    Sent(reason="timeout"),
    Sent(reason="broken"),
    Answered(status=500, body=b"{}"),
    Answered(status=503, body=b""),
    Answered(status=200, body=b"{}"),
    Answered(status=302, body=b""),
    Answered(status=408, body=b"{}"),
    Answered(status=403, body=b"<html>"),
]
NEUTRAL: list[Evidence] = [NotSent(reason=reason) for reason in OURS]  # type: ignore[arg-type]  # three of its reasons


def attempted(breaker: Breaker, evidence: Evidence, now: float = 0.0) -> None:
    breaker.attempted(evidence, classify(evidence), now)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(failures=2, open_s=5)
    for _again in range(2):
        attempted(breaker, Sent(reason="broken"), now)
    assert breaker.state == OPEN
    return breaker


@pytest.mark.parametrize("evidence", FAILED, ids=repr)
def test_so_many_failures_in_a_row_open_it(evidence: Evidence) -> None:
    breaker = Breaker(failures=5, open_s=5)
    for _again in range(4):
        attempted(breaker, evidence)
        assert breaker.advice(0) == "go"
    attempted(breaker, evidence, now=1)
    assert (breaker.advice(5.9), breaker.opens_in(2)) == ("no", 4)


@pytest.mark.parametrize("evidence", USABLE, ids=repr)
def test_any_usable_answer_begins_the_count_anew(evidence: Evidence) -> None:
    breaker = Breaker(failures=2, open_s=5)
    for _again in range(10):
        attempted(breaker, Sent(reason="broken"))
        attempted(breaker, evidence)
    assert breaker.advice(0) == "go"


@pytest.mark.parametrize("evidence", NEUTRAL, ids=repr)
def test_what_did_not_concern_offergrid_counts_for_nothing(evidence: Evidence) -> None:
    breaker = Breaker(failures=2, open_s=5)
    attempted(breaker, Sent(reason="broken"))
    attempted(breaker, evidence)
    assert breaker.advice(0) == "go"
    attempted(breaker, Sent(reason="broken"))
    assert breaker.advice(0) == "no"


def test_one_looks_and_a_whole_answer_closes_it() -> None:
    breaker = opened()
    assert [breaker.advice(5), breaker.advice(5), breaker.advice(9.9)] == ["look", "no", "no"]
    assert breaker.state == HALF_OPEN
    assert breaker.looked(Answered(status=404, body=b""), 9.9) == "go"
    assert breaker.state == CLOSED
    attempted(breaker, Sent(reason="broken"))
    assert breaker.advice(9.9) == "go", "the count begins anew"


@pytest.mark.parametrize("evidence", [Sent(reason="timeout"), NotSent(reason="connect_refused")], ids=repr)
def test_no_answer_to_the_look_keeps_it_open_for_as_long_again(evidence: Evidence) -> None:
    breaker = opened()
    assert breaker.advice(5) == "look"
    assert breaker.looked(evidence, 7) == "no"
    assert [breaker.advice(11.9), breaker.advice(12)] == ["no", "look"]


@pytest.mark.parametrize(("evidence", "state"), [(PLACED, CLOSED), (Sent(reason="broken"), OPEN)])
def test_a_5xx_lets_one_order_through_and_that_one_decides(evidence: Evidence, state: int) -> None:
    breaker = opened()
    assert breaker.advice(5) == "look"
    assert breaker.looked(Answered(status=500, body=b""), 6) == "go"
    assert breaker.advice(6) == "no", "one order"
    attempted(breaker, evidence, 7)
    assert breaker.state == state


def test_who_vanishes_on_the_way_is_followed_by_another() -> None:
    breaker = opened()
    assert breaker.advice(5) == "look"
    assert breaker.advice(10) == "look"
    breaker.looked(Answered(status=500, body=b""), 10)
    assert breaker.advice(15) == "look"


@given(st.lists(st.tuples(st.sampled_from([*USABLE, *FAILED, *NEUTRAL]), st.floats(0, 3)), max_size=80))
def test_while_it_is_not_closed_at_most_one_goes_in_each_period(steps: list[tuple[Evidence, float]]) -> None:
    breaker, now, went = Breaker(failures=3, open_s=5), 0.0, -10.0
    for evidence, pause in steps:
        now += pause
        before = breaker.state
        advice = breaker.advice(now)
        if advice == "look":
            advice = breaker.looked(Answered(status=500, body=b""), now)
        if advice == "no":
            continue
        if before != CLOSED:
            assert now - went >= 5
            went = now
        attempted(breaker, evidence, now)
