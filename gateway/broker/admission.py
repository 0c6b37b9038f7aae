"""Who may go on its way to OfferGrid, and who waits: for one of the places in flight, and for its key's budget.

A short line and a limit on waiting: when OfferGrid is slow, refusing at once costs a tenant less than a long wait
that ends in a refusal all the same. Those who wait stand in *lanes*, one for each tenant and team. The lanes take
turns, so that a tenant with many orders does not stand before another's one; within a lane it is first come, first
served. A lane whose head met an empty budget rests until something comes back to it.
"""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from gateway.core.budget import Shortage


class Lane(NamedTuple):
    """Whose orders stand in one line."""

    team_id: int
    tenant_id: int


class Turn:
    """One order in line. `future` is done when a place is this one's."""

    __slots__ = ("future", "lane")

    def __init__(self, lane: Lane, future: "asyncio.Future[None]") -> None:
        self.lane = lane
        self.future = future


class _Waiting(msgspec.Struct, kw_only=True):
    """A lane's orders; `not_before` is a monotonic instant."""

    turns: deque[Turn]
    not_before: float = 0.0
    short: Shortage | None = None


class Admission:
    """Belongs to one event loop. `now` is its monotonic clock."""

    def __init__(
        self, *, max_in_flight: int, max_waiting: int, max_wait_s: float, now: Callable[[], float]
    ) -> None:
        self.max_wait_s = max_wait_s
        self._free = max_in_flight
        self._max_waiting = max_waiting
        self._now = now
        self._lanes: OrderedDict[Lane, _Waiting] = OrderedDict()
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None

    def allow(self, *, max_waiting: int) -> None:
        """For the orders that come; nobody is sent out of the line."""
        self._max_waiting = max_waiting

    def enter_at_once(self, lane: Lane) -> bool:
        """Takes a place where one is free and nobody of the lane waits. It must be given back by `leave`."""
        if self._free == 0 or lane in self._lanes:
            return False
        self._free -= 1
        return True

    def others_wait(self, lane: Lane) -> bool:
        """Whether another tenant's orders wait for the same team's budget."""
        return any(known.team_id == lane.team_id for known in self._lanes if known != lane)

    @property
    def is_full(self) -> bool:
        return self._waiting >= self._max_waiting

    def join(self, lane: Lane, short: Shortage | None = None) -> Turn | None:
        """A turn in the line, to be waited for by `wait` or given up by `quit`; None where the line is full.

        `short`: the budget did not allow the order, so the lane rests.
        """
        if self.is_full:
            return None
        return self._insert(lane, short, first=False)

    def put_back(self, turn: Turn, short: Shortage) -> Turn:
        """The turn came, and the budget did not allow the order: it stands first in its lane, which rests. Its place is
        given back.
        """
        again = self._insert(turn.lane, short, first=True)
        self.leave()
        return again

    def short_of(self, turn: Turn) -> Shortage | None:
        """Why its lane rests, and for how long from now; None where it does not."""
        waiting = self._lanes.get(turn.lane)
        if waiting is None or waiting.short is None:
            return None
        left_ms = math.ceil(1000 * (waiting.not_before - self._now()))
        return structs.replace(waiting.short, wait_ms=max(0, left_ms))

    async def wait(self, turn: Turn, until: Iterable[asyncio.Future[Any]] = (), *, wait_s: float) -> bool:
        """True with a place, which must be given back by `leave`. False where none came free in time, or before one of
        `until` was done, which is left as it is; the turn must then be given up by `quit`.
        """
        try:
            await asyncio.wait((turn.future, *until), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            self.quit(turn)
            raise
        return turn.future.done()

    def quit(self, turn: Turn) -> None:
        """Leaves the line, or gives back the place that the turn has come to."""
        if turn.future.done():
            self.leave()
            return
        waiting = self._lanes[turn.lane]
        waiting.turns.remove(turn)
        self._took_out(turn.lane, waiting)
        self._give_out()

    def leave(self) -> None:
        """Gives a place back: to who is next, or to nobody."""
        self._free += 1
        self._give_out()

    def _insert(self, lane: Lane, short: Shortage | None, *, first: bool) -> Turn:
        turn = Turn(lane, asyncio.get_running_loop().create_future())
        waiting = self._lanes.setdefault(lane, _Waiting(turns=deque()))
        if first:
            waiting.turns.appendleft(turn)
        else:
            waiting.turns.append(turn)
        if short is not None:
            waiting.not_before, waiting.short = self._now() + short.wait_ms / 1000, short
        self._waiting += 1
        self._give_out()
        return turn

    def _give_out(self) -> None:
        """The free places, to the lanes that do not rest, one after the other."""
        now = self._now()
        while self._free:
            lane = next((lane for lane, waiting in self._lanes.items() if waiting.not_before <= now), None)
            if lane is None:
                break
            waiting = self._lanes[lane]
            turn = waiting.turns.popleft()
            waiting.short = None
            self._lanes.move_to_end(lane)
            self._took_out(lane, waiting)
            self._free -= 1
            turn.future.set_result(None)
        self._set_timer()

    def _took_out(self, lane: Lane, waiting: _Waiting) -> None:
        self._waiting -= 1
        if not waiting.turns:
            del self._lanes[lane]

    def _set_timer(self) -> None:
        """For the next lane that wakes up, where a place is free for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._free and self._lanes:
            wakes = min(waiting.not_before for waiting in self._lanes.values())
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wakes - self._now()), self._give_out)
