"""Both limits hold in every window, however it is cut, and `retry-after` tells the truth."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sandbox import SandboxThread
from gateway.sandbox.state import Limits
from tests.sandbox.tools import client, order_body

_NS = 1_000_000_000
_GAPS = st.lists(
    st.one_of(
        st.integers(0, 2 * _NS),
        st.integers(0, 90 * _NS),
        st.integers(59 * _NS, 61 * _NS),
        st.integers(3_599 * _NS, 3_601 * _NS),
        st.sampled_from([60 * _NS, 3_600 * _NS]),
    ),
    max_size=60,
)


@given(gaps=_GAPS, per_minute=st.integers(0, 5), per_hour=st.integers(0, 8))
@settings(deadline=None)
def test_no_window_holds_more_than_the_limit(gaps: list[int], per_minute: int, per_hour: int) -> None:
    limits, at, allowed = Limits(per_minute, per_hour), 0, list[int]()
    for gap in gaps:
        at += gap
        wait_s = limits.take("k", at)
        if wait_s == 0:
            allowed.append(at)
        # Told to wait exactly when a window is full, and for no less and less than 1 s more than is needed.
        full = [
            span
            for limit, span in ((per_minute, 60), (per_hour, 3_600))
            if limit and sum(1 for when in allowed if at - when < span * _NS) > limit - (wait_s > 0)
        ]
        assert bool(full) == (wait_s > 0)
    for limit, span in ((per_minute, 60), (per_hour, 3_600)):
        if limit:
            for first, last in zip(allowed, allowed[limit:], strict=False):
                assert last - first >= span * _NS


@given(gaps=_GAPS, per_minute=st.integers(1, 5), per_hour=st.integers(1, 8))
@settings(deadline=None)
def test_who_waits_as_told_is_let_in_and_no_second_too_late(
    gaps: list[int], per_minute: int, per_hour: int
) -> None:
    limits, at = Limits(per_minute, per_hour), 0
    for gap in gaps:
        at += gap
        wait_s = limits.take("k", at)
        if wait_s:
            if wait_s > 1:
                assert limits.take("k", at + (wait_s - 1) * _NS) > 0
            at += wait_s * _NS
            assert limits.take("k", at) == 0


@pytest.mark.parametrize(
    ("at_ns", "wait_s"), [(0, 60), (1, 60), (_NS, 59), (59 * _NS, 1), (60 * _NS - 1, 1), (60 * _NS, 0)]
)
def test_wait_is_told_in_whole_seconds_rounded_up(at_ns: int, wait_s: int) -> None:
    limits = Limits(1, 0)
    assert limits.take("k", 0) == 0
    assert limits.take("k", at_ns) == wait_s


@pytest.mark.parametrize(("per_minute", "per_hour", "longest"), [(3, 0, 60), (0, 3, 3_600), (5, 3, 3_600)])
def test_calls_beyond_the_limit_are_429_for_that_key_alone(per_minute: int, per_hour: int, longest: int) -> None:
    with SandboxThread(per_minute=per_minute, per_hour=per_hour) as sandbox:
        with client(sandbox, "sandbox-key-a") as http:
            calls = [
                http.post("/reseller/orders", json=order_body()),
                http.get("/reseller/orders"),
                http.get("/reseller/catalog"),
                http.post("/reseller/orders", json=order_body()),
            ]
            assert [call.status_code for call in calls] == [201, 200, 200, 429]
            assert calls[3].json() == {
                "statusCode": 429,
                "message": "Too many requests",
                "error": "Too Many Requests",
            }
            assert 1 <= int(calls[3].headers["retry-after"]) <= longest
            log = http.get("/sandbox/calls").json()["sandbox-key-a"]
            assert [call["allowed"] for call in log] == [True, True, True, False]
        with client(sandbox, "sandbox-key-b") as http:
            assert http.get("/reseller/orders").status_code == 200
        assert len(sandbox.orders) == 1


def test_hundred_a_minute_unless_said_and_none_for_zero(sandbox: SandboxThread) -> None:
    with client(sandbox) as http:
        codes = [http.get("/reseller/orders").status_code for _ in range(101)]
    assert (codes.count(200), codes[100]) == (100, 429)
    with SandboxThread(per_minute=0, per_hour=0) as unlimited, client(unlimited) as http:
        assert {http.get("/reseller/orders").status_code for _ in range(150)} == {200}


def test_provider_key_is_counted_and_an_unknown_one_is_not() -> None:
    with SandboxThread(per_minute=1) as sandbox:
        with client(sandbox, "sandbox-provider-p") as http:
            assert [http.get("/reseller/orders").status_code for _ in range(2)] == [403, 429]
        with client(sandbox, "unknown") as http:
            assert [http.get("/reseller/orders").status_code for _ in range(2)] == [401, 401]
