"""Stopping: which signals mean it, and how long it may take in all."""

import asyncio
import signal

from gateway.clock import Clock


class Stopping:
    """`asked` is set by SIGTERM or SIGINT, which then end nothing by themselves.

    From `begin` on everything that still runs has `drain_s` seconds together. A second signal ends the patience.
    """

    def __init__(self, clock: Clock, drain_s: float) -> None:
        self.asked = asyncio.Event()
        self._clock = clock
        self._drain_s = drain_s
        self._until: float | None = None
        self._hurry = asyncio.Event()

    def listen(self) -> None:
        """Takes the process's signals over."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._signalled)

    def begin(self) -> None:
        if self._until is None:
            self._until = self._clock.monotonic() + self._drain_s

    def left_s(self) -> float:
        """Seconds of patience, 0 where there is none left."""
        if self._hurry.is_set():
            return 0.0
        self.begin()
        assert self._until is not None
        return max(0.0, self._until - self._clock.monotonic())

    async def wait_for(self, task: asyncio.Task[None], at_most_s: float | None = None) -> bool:
        """Whether the task ended by itself while there was patience."""
        seconds = self.left_s() if at_most_s is None else min(at_most_s, self.left_s())
        hurried = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({task, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        return task.done()

    def _signalled(self) -> None:
        if self.asked.is_set():
            self._hurry.set()
        self.asked.set()
