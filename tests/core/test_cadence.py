"""Cadence in virtual time: no minute has more calls than the reserve, and what is ripe is proven in time."""

import itertools
from collections.abc import Callable, Sequence

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.absence import EVERY, Absence, Sight, Terms
from gateway.core.cadence import PACE_WINDOW_S, PATROL_EVERY, WATCHED_EVERY, Cadence

SETTLE, INTERVAL, PER_MINUTE = 60.0, 5.0, 5
POLL = 1.0  # how often it is asked whether a look is due
HOLDS_NONE = Sight(covers_from=EVERY, upstream_ids=frozenset(), order_ids=frozenset())


class Unsure(msgspec.Struct, frozen=True, kw_only=True):
    order_id: str
    version: int = 1
    created_tick: int = 0


class Day(msgspec.Struct, kw_only=True):
    """What came of a simulated stretch of time: when each call was made, and when each order was settled."""

    calls: list[float]
    began: list[float]
    settled: dict[str, float]
    patrols: list[float]


def simulated(
    unknown_at: Sequence[float],
    *,
    until: float,
    well: Callable[[float], bool] = lambda _: True,
    pages: int = 1,
    per_minute: int = PER_MINUTE,
    watched: bool = False,
    takes: float = 0.1,
    poll: float = POLL,
    at_once: bool = False,
) -> Day:
    """Orders that OfferGrid never took, unknown since these instants, and looks that are good while it is `well`."""
    absence = Absence(Terms(mode="witnessed", settle_after_s=SETTLE, interval_s=INTERVAL))
    cadence = Cadence(
        interval_s=INTERVAL, settle_after_s=SETTLE, per_minute=per_minute, started=0.0, at_once=at_once
    )
    day = Day(calls=[], began=[], settled={}, patrols=[])
    now = 0.0
    while now < until:
        orders = [
            Unsure(order_id=str(number))
            for number, at in enumerate(unknown_at)
            if at <= now and str(number) not in day.settled
        ]
        absence.see(orders, now)
        due = cadence.due(now, first_seen=absence.first_seen, watched=watched)
        if due and cadence.may_begin(now, absence.last_ripe):
            patrol = cadence.patrol_due(now)
            cadence.began(now)
            day.began.append(now)
            read = 0
            begun = now
            while read < pages:
                now += cadence.call_in(now)
                cadence.called(now)
                day.calls.append(now)
                read += 1
            good = well(now)
            found = absence.looked(begun, HOLDS_NONE if good else None, orders)
            cadence.ended(good=good, pages=pages, patrolled_at=now if patrol and good else None)
            day.patrols += [now] if patrol else []
            now += takes
            day.settled.update(dict.fromkeys(found.absent, now))
        now += poll
    return day


def test_a_minute_is_longer_than_a_minute() -> None:
    assert PACE_WINDOW_S == 61


def most_in_a_window(calls: Sequence[float]) -> int:
    return max((sum(start <= call < start + PACE_WINDOW_S for call in calls) for start in calls), default=0)


@given(
    st.lists(st.floats(0, 600), max_size=12),
    st.lists(st.floats(0, 600), max_size=6),
    st.integers(0, 8),
    st.integers(1, 4),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_no_minute_has_more_calls_than_the_reserve(
    unknown_at: list[float], turns: list[float], per_minute: int, pages: int, watched: bool
) -> None:
    day = simulated(
        unknown_at,
        until=700,
        well=lambda now: sum(turn <= now for turn in turns) % 2 == 0,
        pages=pages,
        per_minute=per_minute,
        watched=watched,
    )
    assert most_in_a_window(day.calls) <= max(1, per_minute)
    assert all(two - one >= INTERVAL - 1e-9 for one, two in itertools.pairwise(day.began))


@given(
    st.floats(0, 100), st.lists(st.floats(0, 30), min_size=1, max_size=20), st.floats(0.01, POLL), st.floats(0, 2)
)
@example(0.0, [0.0], 1.0, 0.1)
@settings(max_examples=100, deadline=None)
def test_a_burst_is_settled_in_time(first: float, more: list[float], poll: float, takes: float) -> None:
    """Of up to half a minute, with the defaults: settle_after_s + 3 × interval_s after its last order at the latest."""
    unknown_at = [first, *(first + later for later in more)]
    day = simulated(unknown_at, until=first + 200, poll=poll, takes=takes)
    assert len(day.settled) == len(unknown_at)
    assert max(day.settled.values()) <= max(unknown_at) + SETTLE + 3 * INTERVAL


@given(
    st.lists(st.floats(0, 300), min_size=1, max_size=20),
    st.floats(300, 400),
    st.floats(0.01, POLL),
)
@settings(max_examples=100, deadline=None)
def test_an_outage_is_settled_in_time(unknown_at: list[float], healed: float, poll: float) -> None:
    """However long it was, and however many looks failed in it."""
    day = simulated(unknown_at, until=healed + 200, well=lambda now: now >= healed, poll=poll)
    assert len(day.settled) == len(unknown_at)
    assert max(day.settled.values()) <= healed + SETTLE + 3 * INTERVAL


def test_one_order_is_looked_for_three_times_and_then_proven() -> None:
    day = simulated([10], until=200, poll=0.5)
    assert [round(began - 10) for began in day.began] == [5, 10, 15, 60, 65]
    assert day.settled["0"] <= 10 + SETTLE + INTERVAL + 1


def test_orders_without_end_do_not_starve_the_proofs() -> None:
    day = simulated([float(at) for at in range(0, 900, 3)], until=900)
    assert most_in_a_window(day.calls) <= PER_MINUTE
    late = [day.settled[str(number)] - 3 * number for number in range(150)]
    assert max(late) <= 2 * (SETTLE + PACE_WINDOW_S)
    assert len(simulated([float(at) for at in range(0, 900, 3)], until=900, per_minute=2).settled) > 100


@pytest.mark.parametrize(("per_minute", "pages"), [(0, 1), (1, 1), (2, 1), (3, 1), (5, 2), (5, 5)])
def test_a_small_reserve_is_slow_and_gets_there(per_minute: int, pages: int) -> None:
    day = simulated([0.0, 20.0], until=500, per_minute=per_minute, pages=pages)
    assert set(day.settled) == {"0", "1"}


@pytest.mark.parametrize(("pages", "per_minute"), [(6, 5), (50, 5), (3, 1), (200, 20)])
def test_a_listing_of_more_pages_than_the_reserve_has_calls_waits_for_them(pages: int, per_minute: int) -> None:
    takes = PACE_WINDOW_S * -(-pages // per_minute)
    day = simulated([0.0], until=SETTLE + 4 * takes, pages=pages, per_minute=per_minute)
    assert most_in_a_window(day.calls) <= per_minute
    assert day.settled["0"] <= SETTLE + 3 * takes


def test_looks_that_are_no_good_come_less_and_less_often() -> None:
    day = simulated([0.0], until=1000, well=lambda _: False, per_minute=1000)
    gaps = [two - one for one, two in itertools.pairwise(day.began)]
    assert [10 * round(gap / 10) for gap in gaps[:5]] == [10, 20, 40, 60, 60]
    assert max(gaps) <= SETTLE + 2 * POLL


def test_watched_orders_and_patrols() -> None:
    quiet = simulated([], until=1250, poll=0.25)
    assert [round(at) for at in quiet.began] == [PATROL_EVERY * INTERVAL, 2 * PATROL_EVERY * INTERVAL]
    assert quiet.began == quiet.patrols
    watching = simulated([], until=1250, watched=True, poll=0.25)
    gaps = [two - one for one, two in itertools.pairwise(watching.began)]
    assert min(gaps) >= WATCHED_EVERY * INTERVAL and max(gaps) <= WATCHED_EVERY * INTERVAL + 2 * POLL
    assert watching.patrols == [pytest.approx(600, abs=65), pytest.approx(1250, abs=65)][: len(watching.patrols)]


def test_a_patrol_that_failed_is_made_again() -> None:
    day = simulated([], until=1000, well=lambda now: now > 640)
    assert [now > 640 for now in day.patrols] == [False, True]


def test_what_was_unknown_at_the_start_is_looked_for_at_once() -> None:
    at_once = simulated([0.0], until=14, at_once=True)
    assert at_once.began[0] == 0.0 and len(at_once.began) == 3
    assert simulated([0.0], until=10).began[0] >= INTERVAL
