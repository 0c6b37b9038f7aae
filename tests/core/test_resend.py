"""When an order is sent again: these cases, and never anything else."""

import email.utils
import itertools
from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.evidence import Answered, Evidence, NotSent, NotSentReason, Sent
from gateway.core.outcome import classify
from gateway.core.resend import (
    MAX_RETRY_AFTER_S,
    MAX_UNSENT_ATTEMPTS,
    UNSENT_PAUSES_S,
    pause_before_resend,
    retry_after_s,
)
from tests.core.test_outcome import EVIDENCE, HTML, PLACED

NOW_MS = 1_736_157_600_000  # 2025-01-06T10:00:00Z, a Monday
TIMEOUT_S = 10.0


def _pause(
    evidence: Evidence, *, attempts: int = 1, left_s: float = TIMEOUT_S, timeout_s: float = TIMEOUT_S
) -> float | None:
    return pause_before_resend(
        evidence, classify(evidence), attempts=attempts, left_s=left_s, timeout_s=timeout_s, wall_ms=NOW_MS
    )


UNSENT = [NotSent(reason=reason) for reason in get_args(NotSentReason) if reason != "too_late"]
THROTTLED = [
    Answered(status=429, body=body, retry_after=after) for body in (b"", b"{}") for after in (None, "0", "1", "3")
]
NEVER: list[Evidence] = [
    NotSent(reason="too_late"),
    Sent(reason="timeout"),
    Sent(reason="broken"),
    Answered(status=429, body=HTML, retry_after="1"),
    *(
        Answered(status=status, body=body, retry_after="1")
        for status in range(100, 600)
        if status != 429
        for body in (b"", b"{}", PLACED, HTML)
    ),
]
LEFT = [-1.0, 0.0, 0.01, 4.9, 5.0, 5.049, 5.05, 5.25, 5.99, 6.0, 8.0, 10.0]


@pytest.mark.parametrize("evidence", [*UNSENT, *THROTTLED], ids=str)
def test_what_may_be_sent_again_waits_and_leaves_half_of_the_time(evidence: Evidence) -> None:
    for attempts, left_s in itertools.product(range(1, 8), LEFT):
        pause = _pause(evidence, attempts=attempts, left_s=left_s)
        if isinstance(evidence, NotSent):
            wanted = UNSENT_PAUSES_S[attempts - 1] if attempts < MAX_UNSENT_ATTEMPTS else None
        else:
            assert isinstance(evidence, Answered)
            wanted = float(max(1, int(evidence.retry_after or 1)))
        if wanted is not None and left_s - wanted < TIMEOUT_S / 2:
            wanted = None
        assert pause == wanted, (attempts, left_s)


def test_nothing_else_is_ever_sent_again() -> None:
    for evidence, attempts, left_s in itertools.product(NEVER, (1, 2, 3), (TIMEOUT_S, 1e9)):
        assert _pause(evidence, attempts=attempts, left_s=left_s) is None, evidence


@given(EVIDENCE, st.integers(1, 10), st.floats(-10, 1e6), st.floats(0.001, 1e5))
def test_no_attempt_begins_with_less_than_half_of_the_time(
    evidence: Evidence, attempts: int, left_s: float, timeout_s: float
) -> None:
    pause = _pause(evidence, attempts=attempts, left_s=left_s, timeout_s=timeout_s)
    if pause is not None:
        assert pause > 0
        assert left_s - pause >= timeout_s / 2
        assert isinstance(evidence, NotSent) or (isinstance(evidence, Answered) and evidence.status == 429)


def _date(seconds: float) -> str:
    return email.utils.format_datetime(datetime.fromtimestamp(NOW_MS / 1000 + seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 1), ("", 1), (" ", 1), ("0", 1), ("1", 1), (" 7\t", 7), ("59", 59), ("007", 7),
        ("00000000000000000042", 42), ("3600", 3600), ("3601", 3600), ("1" + "0" * 30, 3600), ("9" * 5_000, 3600),
        ("-1", 1), ("+5", 1), ("1.5", 1), ("1e3", 1), ("0x10", 1), ("5 s", 1), ("5,6", 1),
        ("١٢", 1), ("²", 1), ("５", 1),
        ("garbage", 1), ("Mon", 1), ("Mon, 06 Jan 2025", 1), ("\x00", 1), ("NaN", 1), ("inf", 1),
        (_date(30), 30), (_date(0), 1), (_date(-500), 1), (_date(86_400), 3600),
        ("Mon, 06 Jan 2025 10:00:10 GMT", 10), ("Monday, 06-Jan-25 10:00:10 GMT", 10), ("Mon Jan  6 10:00:10 2025", 10),
        ("Mon, 06 Jan 2025 11:00:10 +0100", 10), ("Mon, 06 Jan 2025 10:00:10 -0000", 10),
        ("Mon, 06 Jan 0001 10:00:10 +2359", 1), ("Fri, 31 Dec 9999 23:59:59 -2359", 3600),
        ("Mon, 06 Jan 2025 10:00:10 +9999", 1), ("Mon, 99 Jan 2025 10:00:10 GMT", 1),
        ("Mon, 06 Jan 2025 25:61:61 GMT", 1),
    ],
)  # fmt: skip
def test_retry_after_is_a_sane_number_of_seconds(value: str | None, seconds: int) -> None:
    assert retry_after_s(value, wall_ms=NOW_MS) == seconds


WORDS = st.sampled_from(
    ["Mon,", "Tue", "06", "Jan", "Feb", "2025", "0001", "99999", "10:00:00", "99:99", "10.11", "GMT", "UTC", "+2400",
     "-9999", "+2359", "EST", ",", ".", "-", ":", "+", "a", "AM", "31", "0"],
)  # fmt: skip


@given(
    st.one_of(
        st.text(max_size=40), st.lists(WORDS, max_size=8).map(" ".join), st.lists(WORDS, max_size=8).map("".join)
    )
)
def test_no_retry_after_is_believed_beyond_an_hour_or_raises(value: str) -> None:
    assert 1 <= retry_after_s(value, wall_ms=NOW_MS) <= MAX_RETRY_AFTER_S
