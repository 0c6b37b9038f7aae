"""The orders in hand: each in a task of its own, which no hanging up cancels and which draining waits for."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from gateway.errors import Draining
from gateway.flow.answer import Answer


class Intake:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Answer]] = set()
        self.draining = False

    def __len__(self) -> int:
        return len(self._tasks)

    def require_open(self) -> None:
        """Draining, once this instance takes no more orders."""
        if self.draining:
            raise Draining("Send the order to another instance, or again in a moment.")

    async def run(self, order: Coroutine[Any, Any, Answer]) -> Answer:
        """The order's answer. The order goes on to its end even where whoever waits here is cancelled."""
        task = asyncio.get_running_loop().create_task(order)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def drain(self, within_s: float) -> int:
        """Takes no more, and waits for what is in hand. Returns how many orders did not end in time."""
        self.draining = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
        return len(self._tasks)
