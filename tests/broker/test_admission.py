"""Places among the orders in flight: first come first served, bounded, and none is ever lost."""

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.broker.admission import Admission, Lane
from gateway.core.budget import Shortage
from gateway.errors import Overloaded

LANE = Lane(1, 1)


async def _enter(admission: Admission) -> None:
    """As an order does: at once, or in line, or not at all."""
    if admission.enter_at_once(LANE):
        return
    turn = admission.join(LANE)
    if turn is None:
        raise Overloaded("the line is full")
    if not await admission.wait(turn, wait_s=admission.max_wait_s):
        admission.quit(turn)
        raise Overloaded("no place")


async def _settled() -> None:
    for _step in range(5):
        await asyncio.sleep(0)


def test_first_come_first_served() -> None:
    async def play() -> None:
        admission = Admission(max_in_flight=2, max_waiting=100, max_wait_s=60, now=time.monotonic)
        order: list[int] = []

        async def enters(name: int) -> None:
            await _enter(admission)
            order.append(name)

        tasks = []
        for name in range(20):
            tasks.append(asyncio.ensure_future(enters(name)))
            await asyncio.sleep(0)
        assert order == [0, 1]
        for at in range(18):
            admission.leave()
            await _settled()
            assert order == list(range(3 + at)), "one place, one order, the one that came first"
        await asyncio.gather(*tasks)

    asyncio.run(play())


def test_who_comes_late_does_not_pass_who_waits() -> None:
    async def play() -> None:
        admission = Admission(max_in_flight=1, max_waiting=10, max_wait_s=60, now=time.monotonic)
        await _enter(admission)
        waiting = asyncio.ensure_future(_enter(admission))
        await asyncio.sleep(0)
        admission.leave()  # the place is the waiting one's, although it has not run yet
        late = asyncio.ensure_future(_enter(admission))
        await _settled()
        assert waiting.done() and not late.done()
        admission.leave()
        await late

    asyncio.run(play())


@pytest.mark.parametrize("max_waiting", [0, 1, 3])
def test_past_the_line_is_refused_at_once(max_waiting: int) -> None:
    async def play() -> None:
        admission = Admission(max_in_flight=1, max_waiting=max_waiting, max_wait_s=60, now=time.monotonic)
        await _enter(admission)
        waiting = [asyncio.ensure_future(_enter(admission)) for _ in range(max_waiting)]
        await asyncio.sleep(0)
        coroutine = _enter(admission)
        with pytest.raises(Overloaded):
            coroutine.send(None)  # refused without giving the loop a turn
        admission.leave()
        for task in waiting:
            await task
            admission.leave()
        await _enter(admission)

    asyncio.run(play())


def test_who_waits_too_long_is_refused_and_the_line_goes_on() -> None:
    async def play() -> None:
        admission = Admission(max_in_flight=1, max_waiting=10, max_wait_s=0.01, now=time.monotonic)
        await _enter(admission)
        for _again in range(3):
            found = await asyncio.gather(*(_enter(admission) for _ in range(10)), return_exceptions=True)
            assert all(isinstance(fault, Overloaded) for fault in found)
        admission.leave()
        await _enter(admission)

    asyncio.run(play())


def test_who_gives_up_leaves_the_line_at_once() -> None:
    async def play() -> None:
        admission = Admission(max_in_flight=1, max_waiting=10, max_wait_s=60, now=time.monotonic)
        await _enter(admission)
        gives_up = asyncio.get_running_loop().create_future()
        turn = admission.join(LANE)
        assert turn is not None
        waiting = asyncio.ensure_future(admission.wait(turn, [gives_up], wait_s=60))
        await asyncio.sleep(0)
        gives_up.set_result(None)
        assert not await waiting
        admission.quit(turn)
        admission.leave()
        assert admission.enter_at_once(LANE), "the place is not given to who has gone"

    asyncio.run(play())


def test_who_gives_up_when_the_turn_has_come_gives_the_place_back() -> None:
    async def play() -> None:
        admission = Admission(max_in_flight=1, max_waiting=10, max_wait_s=60, now=time.monotonic)
        await _enter(admission)
        turn = admission.join(LANE)
        assert turn is not None
        waiting = asyncio.ensure_future(admission.wait(turn, wait_s=60))
        await asyncio.sleep(0)
        admission.leave()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert admission.enter_at_once(LANE)

    asyncio.run(play())


STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "leave", "cancel", "turn", "leave+cancel"]), st.integers(0, 20)),
    max_size=60,
)


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(0, 4), STEPS)
def test_no_place_is_lost_or_made_whoever_gives_up_when(
    max_in_flight: int, max_waiting: int, steps: list[tuple[str, int]]
) -> None:
    """Any order of coming, leaving and giving up, at whatever turn of the loop."""

    async def play() -> None:
        admission = Admission(
            max_in_flight=max_in_flight, max_waiting=max_waiting, max_wait_s=600, now=time.monotonic
        )
        inside = 0

        async def enters() -> None:
            nonlocal inside
            await _enter(admission)
            inside += 1
            assert inside <= max_in_flight

        tasks: list[asyncio.Task[None]] = []

        def leaves() -> None:
            nonlocal inside
            if inside:
                inside -= 1
                admission.leave()

        for what, at in steps:
            if what == "enter":
                tasks.append(asyncio.ensure_future(enters()))
            if "leave" in what:
                leaves()
            if "cancel" in what and tasks:
                tasks[at % len(tasks)].cancel()
            if what == "turn":
                await asyncio.sleep(0)
        await _settled()
        for task in tasks:
            task.cancel()
        for found in await asyncio.gather(*tasks, return_exceptions=True):
            assert found is None or isinstance(found, asyncio.CancelledError | Overloaded)
        while inside:
            leaves()
        for _place in range(max_in_flight):
            await asyncio.wait_for(_enter(admission), 60)
        if not max_waiting:
            with pytest.raises(Overloaded):
                await _enter(admission)
        assert not admission._lanes
        assert not admission._waiting

    asyncio.run(play())


SHORT = Shortage(wait_ms=20, why="minute")


def test_the_lanes_take_turns() -> None:
    """A tenant with many orders does not stand before another's one."""

    async def play() -> None:
        admission = Admission(max_in_flight=1, max_waiting=100, max_wait_s=60, now=time.monotonic)
        assert admission.enter_at_once(LANE)
        came: list[int] = []
        turns = {}
        for tenant in (1, 1, 1, 1, 2, 2, 3):
            turn = admission.join(Lane(1, tenant))
            assert turn is not None
            turns[turn] = tenant
        for _place in range(7):
            admission.leave()
            (turn,) = (turn for turn in turns if turn.future.done())
            came.append(turns.pop(turn))
        assert came == [1, 2, 3, 1, 2, 1, 1]

    asyncio.run(play())


def test_a_lane_whose_budget_is_short_rests_and_goes_on_where_it_was() -> None:
    async def play() -> None:
        admission = Admission(max_in_flight=1, max_waiting=100, max_wait_s=60, now=time.monotonic)
        first, second = admission.join(LANE), admission.join(LANE)
        assert first is not None and second is not None
        assert first.future.done() and not second.future.done()
        first = admission.put_back(first, SHORT)
        assert not first.future.done() and not second.future.done(), "both rest"
        assert not admission.enter_at_once(LANE), "nobody overtakes"
        assert admission.others_wait(Lane(1, 2)) and not admission.others_wait(Lane(2, 3))
        short = admission.short_of(second)
        assert short is not None and short.why == "minute" and 0 < short.wait_ms <= 20
        other = Lane(1, 2)
        assert admission.enter_at_once(other), "the place is free for who does not rest"
        admission.leave()
        assert await admission.wait(first, wait_s=60)
        assert not second.future.done()
        admission.leave()
        assert second.future.done()

    asyncio.run(play())
