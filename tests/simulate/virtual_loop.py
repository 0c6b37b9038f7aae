"""An event loop whose time passes only when nothing is left to do, and whose order of running is drawn from a seed.

Everything that runs belongs to a simulated process, or to the world around it (tenants, OfferGrid, the supervisor):
to which is told by the context that a callback was scheduled in. A process can be *killed*: what it had scheduled
never runs, no `finally` of it either. It can be *paused*: time passes, and what became due runs when it wakes.
"""

import asyncio
import heapq
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, Final, TypeVar

T = TypeVar("T")

MAX_STEPS: Final = 60_000
"""More than any history needs: what goes on for longer goes round in circles."""


class Host:
    """What a callback belongs to. The world itself is one that neither dies nor pauses."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.paused = False
        self.held: list[Call] = []
        self.tasks: dict[int, SimTask] = {}


HOST: Final[ContextVar[Host]] = ContextVar("HOST")


class Astray(AssertionError):
    """The history does not end: a defect of the simulator, or a loop that goes round without time passing."""


class SimTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on where in memory it lies."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class Call(asyncio.TimerHandle):
    """What is to be called, when, and by whom: its context says which host it belongs to."""

    __slots__ = ("host",)

    def __init__(self, when: float, callback: Callable[..., object], args: Any, context: Context | None) -> None:
        # Not the base class's, which asks its loop for debugging at each of millions of calls.
        self._context = copy_context() if context is None else context
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._when = when
        self.host: Host | None = self._context.get(HOST)

    def cancel(self) -> None:
        self._cancelled = True

    def run(self) -> None:
        self._context.run(self._callback, *self._args)


class SimFuture(asyncio.Future[Any]):
    """As `SimTask`."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.AbstractEventLoop):
    """`scramble`: how often (0 to 1) something else than the oldest callback that is ready runs next."""

    def __init__(self, chance: Random, world: Host, *, scramble: float) -> None:
        self.steps = 0
        self.defects: list[str] = []
        self.after_step: Callable[[], None] | None = None
        self._world = world
        self._chance = chance
        self._scramble = scramble
        self._now = 0.0
        self._ready: list[Call] = []
        self._timers: list[tuple[float, int, Call]] = []
        self._numbers = 0
        self._over = False

    def time(self) -> float:
        return self._now

    def pass_time(self, seconds: float) -> None:
        """The machine is slow: time passes inside a step."""
        self._now += seconds

    def call_soon(  # type: ignore[override]  # typeshed's signature has type variables that nothing here needs
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        call = Call(self._now, callback, args, context)
        self._ready.append(call)
        return call

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # there are no threads

    def call_later(  # type: ignore[override]  # as above
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        call = Call(when, callback, args, context)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, call))
        return call

    def create_future(self) -> "asyncio.Future[Any]":
        self._numbers += 1
        future = SimFuture(loop=self)
        future.number = self._numbers
        return future

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,  # noqa: ARG002 - a task's name shows in no history
        context: Context | None = None,
    ) -> "asyncio.Task[T]":
        if self._over:  # a buried task's `finally` asks for another one
            coro.close()
            nobody: asyncio.Task[T] = self.create_future()  # type: ignore[assignment]  # nobody waits for it
            nobody.cancel()
            return nobody
        self._numbers += 1
        task = SimTask(coro, loop=self, name="t", context=context)
        number = task.number = self._numbers
        tasks = HOST.get(self._world).tasks if context is None else context.get(HOST, self._world).tasks
        tasks[number] = task  # what is killed must not be collected: its `finally` would run
        task.add_done_callback(lambda _: tasks.pop(number, None))
        return task

    def run_in_executor(  # type: ignore[override]  # as above
        self, _executor: object, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        """A thread of the pool: it runs at some later moment, in one piece."""
        future: asyncio.Future[T] = self.create_future()

        def run() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except Exception as fault:  # noqa: BLE001 - handed to whoever waits
                future.set_exception(fault)
            else:
                future.set_result(result)

        self.call_later(self._chance.random() ** 3 * 0.02, run)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nothing may go wrong unseen, except that killed tasks are never ended."""
        fault = context.get("exception")
        self.defects.append(f"{context.get('message')}: {type(fault).__name__}: {fault}")

    def run_host(self, host: Host, work: Callable[..., T], *args: Any) -> T:
        """Calls `work` as something that belongs to `host`."""
        context = Context()
        context.run(HOST.set, host)
        return context.run(work, *args)

    def wake(self, host: Host) -> None:
        """Ends a pause: what became due meanwhile is ready now."""
        host.paused = False
        self._ready.extend(host.held)
        host.held.clear()

    def run_until(self, done: Callable[[], bool]) -> None:
        """Runs until `done`, which is asked after each step. Raises Astray where there is no end in sight."""
        asyncio._set_running_loop(self)
        try:
            while not done():
                self._step()
                if self.after_step is not None:
                    self.after_step()
        finally:
            asyncio._set_running_loop(None)

    def _step(self) -> None:
        """Runs one callback, after passing on to the time of the next one where none is ready."""
        timers, ready = self._timers, self._ready
        if not ready:
            while timers and timers[0][2]._cancelled:
                heapq.heappop(timers)
            if not timers:
                raise Astray("nothing is left to happen, and the history has no end")
            self._now = max(self._now, timers[0][0])
        now = self._now
        while timers and timers[0][0] <= now:
            ready.append(heapq.heappop(timers)[2])
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise Astray(f"{MAX_STEPS} steps and no end")
        at = 0
        if len(ready) > 1 and self._chance.random() < self._scramble:
            at = int(self._chance.random() * len(ready))
        call = ready.pop(at)
        host = call.host
        if call._cancelled or (host is not None and host.dead):
            return
        if host is not None and host.paused:
            host.held.append(call)
            return
        try:
            call.run()
        except Exception as fault:  # noqa: BLE001 - told as asyncio's own loop would
            self.call_exception_handler({"message": f"in {call._callback!r}", "exception": fault})

    def bury(self, hosts: list[Host]) -> None:
        """After the history: ends what was killed or still runs, so that nothing of it is left for the collector."""
        self._over = True
        asyncio._set_running_loop(self)
        try:
            for host in hosts:
                for task in list(host.tasks.values()):
                    task._log_destroy_pending = False  # type: ignore[attr-defined]  # as above
                    for _ in range(3):  # a `finally` may wait once more, which a closed coroutine must not
                        with suppress(BaseException):
                            task.get_coro().close()
                            break
        finally:
            asyncio._set_running_loop(None)
        self._ready.clear()
        self._timers.clear()
