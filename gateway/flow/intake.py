"""The orders in hand: each in a task of its own, which no hanging up cancels and which draining waits for."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from gateway.flow.answer import Answer

T = TypeVar("T")


class Intake:
    """Belongs to one event loop. `quarantined`: no order is taken, since the ledger does not know the last ones."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], str] = {}
        self._draining = asyncio.Event()
        self.quarantined = False

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def draining(self) -> bool:
        return self._draining.is_set()

    def begin_draining(self) -> None:
        """No new order is taken, and none waits for its turn any more."""
        self._draining.set()

    async def until_draining(self) -> None:
        await self._draining.wait()

    def in_hand(self) -> set[str]:
        """What the work that goes on is about. An order that is about none of it is in nobody's hand any more."""
        return set(self._tasks.values())

    async def run(self, order: Coroutine[Any, Any, Answer], about: str) -> Answer:
        """The order's answer. The order goes on to its end even where whoever waits here is cancelled."""
        return await asyncio.shield(self.start(order, about))

    def start(self, work: Coroutine[Any, Any, T], about: str) -> asyncio.Task[T]:
        """Work that draining waits for, about an order's id or its request's. Whoever started it may stop waiting;
        its failure is then nobody's.
        """
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = about
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task]
        if not task.cancelled():
            task.exception()  # seen: asyncio would log it with its message, which may quote anything

    async def drain(self, within_s: float) -> int:
        """Takes no more, and waits for what is in hand. Returns how many orders did not end in time."""
        self.begin_draining()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._tasks:  # an order in hand may start writing its end
                    await asyncio.wait(self._tasks)
        return len(self._tasks)
