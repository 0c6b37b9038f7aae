"""How many orders may be on their way to OfferGrid at once, and how many may wait for a place, first come first.

A short line and a limit on waiting: when OfferGrid is slow, refusing at once costs a tenant less than a long wait
that ends in a refusal all the same.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import Overloaded


class Admission:
    """Places for orders in flight. Belongs to one event loop."""

    def __init__(self, *, max_in_flight: int, max_waiting: int, max_wait_s: float) -> None:
        self._places = asyncio.Semaphore(max_in_flight)  # first come, first served
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._waiting = 0

    async def enter_at_once(self) -> bool:
        """Takes a place where one is free and nobody waits for it; it must be given back by `leave`."""
        if self._places.locked():
            return False
        return await self._places.acquire()  # returns without waiting

    async def enter(self) -> None:
        """Returns with a place, which must be given back by `leave`; Overloaded where none comes free in time."""
        if await self.enter_at_once():
            return
        if self._waiting >= self._max_waiting:
            raise Overloaded(f"{self._max_waiting} orders are waiting already.")
        with self._in_line():
            try:
                async with asyncio.timeout(self._max_wait_s):
                    await self._places.acquire()
            except TimeoutError as fault:
                raise Overloaded("No place came free in time.") from fault

    def leave(self) -> None:
        self._places.release()

    @contextmanager
    def _in_line(self) -> Iterator[None]:
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
