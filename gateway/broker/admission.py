"""How many orders may be on their way to OfferGrid at once, and how many may wait for a place, first come first.

A short line and a limit on waiting: when OfferGrid is slow, refusing at once costs a tenant less than a long wait
that ends in a refusal all the same.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

Turn = asyncio.Future[None]
"""Done when a place is this one's."""


class Admission:
    """Places for orders in flight. Belongs to one event loop."""

    def __init__(self, *, max_in_flight: int, max_waiting: int, max_wait_s: float) -> None:
        self._free = max_in_flight
        self._line: deque[Turn] = deque()
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s

    def allow(self, *, max_waiting: int) -> None:
        """For the orders that come; nobody is sent out of the line."""
        self._max_waiting = max_waiting

    def enter_at_once(self) -> bool:
        """Takes a place where one is free; nobody waits then. It must be given back by `leave`."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    def join(self) -> Turn | None:
        """A turn in the line, to be waited for by `wait` or given up by `quit`; None where the line is full."""
        if len(self._line) >= self._max_waiting:
            return None
        turn: Turn = asyncio.get_running_loop().create_future()
        if self.enter_at_once():
            turn.set_result(None)
        else:
            self._line.append(turn)
        return turn

    async def wait(self, turn: Turn, until: Iterable[asyncio.Future[Any]] = ()) -> bool:
        """True with a place, which must be given back by `leave`. False where none came free within `max_wait_s`, or
        before one of `until` was done, which is left as it is.
        """
        try:
            await asyncio.wait((turn, *until), timeout=self._max_wait_s, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            self.quit(turn)
            raise
        if not turn.done():
            self.quit(turn)
        return turn.done()

    def quit(self, turn: Turn) -> None:
        """Leaves the line, or gives back the place that the turn has come to."""
        if turn.done():
            self.leave()
        else:
            self._line.remove(turn)

    def leave(self) -> None:
        """Gives a place back: to who waits longest, or to nobody."""
        if self._line:
            self._line.popleft().set_result(None)
        else:
            self._free += 1
