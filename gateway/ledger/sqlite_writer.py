"""One writer thread that commits whatever waits as one group.

An fsync costs the same for one order as for fifty. While one group is being committed the next one gathers, so that
under load each order pays for less of an fsync, and nobody waits for a timer.
"""

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

import apsw

from gateway.clock import Clock
from gateway.errors import LedgerClosed, LedgerError, LedgerOverloaded, LedgerUndecided
from gateway.ledger.sqlite_engine import close, transaction

MAX_GROUP: Final = 128
"""Writes in one commit: at some 20 µs each a group stays shorter than a slow fsync."""

CLOSE_WITHIN_S: Final = 5.0
"""For what was accepted: a few groups, each with an fsync on a slow disk."""

MAX_WAITING: Final = 2_000
"""Writes that may wait: one for each of the default `tenant_api.max_connections`."""

T = TypeVar("T")


class _Job:
    """One write on its way: what to do, who waits for it, and what came of it."""

    __slots__ = ("fault", "future", "result", "work")

    def __init__(self, work: Callable[[apsw.Connection], Any], future: "asyncio.Future[Any]") -> None:
        self.work = work
        self.future = future
        self.result: Any = None
        self.fault: Exception | None = None

    def run(self, connection: apsw.Connection) -> bool:
        """In a savepoint of its own, so that one job's refusal does not undo its neighbours. Whether it stands."""
        connection.execute("SAVEPOINT job")
        try:
            self.result = self.work(connection)
        except apsw.ConstraintError as fault:  # this statement alone was refused
            self.fault = LedgerError(f"{type(fault).__name__}: {fault}")
            connection.execute("ROLLBACK TO job")
        except UnicodeDecodeError:
            self.fault = LedgerError("a text in the ledger is damaged; see `ordergate db check`")
            connection.execute("ROLLBACK TO job")
        except apsw.Error:
            raise  # the group's fate, decided by `transaction`
        except Exception as fault:  # noqa: BLE001 - handed to whoever waits for this job
            self.fault = fault
            connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        return self.fault is None

    def deliver(self) -> None:
        if self.future.done():  # whoever waited was cancelled; the write stands all the same
            return
        if self.fault is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.fault)


class _Queue:
    """The jobs that nobody has taken yet, shared by the event loop and the writer's thread.

    Either the writer takes a job, and then it has a fate, or whoever waits takes it back, and then it never happened.
    It stands here no longer than that: behind a disk that hangs nothing gathers but what is still waited for.
    """

    def __init__(self) -> None:
        self._jobs: deque[_Job] = deque()
        self._ended = False
        self._changed = threading.Condition(threading.Lock())

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: _Job) -> None:
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def end(self) -> None:
        """What waits is still to be taken; nothing comes after it."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def take_back(self, job: _Job) -> bool:
        """Whether nobody had taken it."""
        with self._changed:
            try:
                self._jobs.remove(job)
            except ValueError:
                return False
            return True

    def take(self, most: int) -> list[_Job]:
        """What waits now, in its order; one job at least, unless the queue has ended."""
        with self._changed:
            while not self._jobs and not self._ended:
                self._changed.wait()
            return self._pop(most)

    def take_all(self) -> list[_Job]:
        with self._changed:
            return self._pop(len(self._jobs))

    def _pop(self, most: int) -> list[_Job]:
        """First the list, which takes memory: a job that is in neither would be waited for without end."""
        jobs = list(itertools.islice(self._jobs, most))
        for _ in jobs:
            self._jobs.popleft()
        return jobs


class Writer:
    """Runs writes on one connection in the order they came, each group durable before anyone is told. `undone` is
    called in the writer's thread where one or more did not stand.

    `on_commit` is told each group's seconds and its fault, if any, on the event loop. After a write whose fate is
    not known the writer is `broken` for good: every later call raises LedgerError, and the process should end.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        clock: Clock,
        on_commit: Callable[[float, LedgerError | None], None],
        undone: Callable[[], None] = lambda: None,
    ) -> None:
        self._undone = undone
        self._connection = connection
        self._clock = clock
        self._on_commit = on_commit
        self._jobs = _Queue()
        self._waiting = 0
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.broken = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="ledger-writer", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[apsw.Connection], T], *, within_s: float | None = None) -> T:
        """What `work` returned, once it is durable; raises what `work` raised, or why the ledger could not.

        `within_s`: LedgerOverloaded where it has not been begun by then; a write that has been is waited for.
        """
        if self.broken.is_set():
            raise LedgerClosed("the ledger cannot be trusted any more; this process must be started again")
        if self._closed:
            raise LedgerClosed("the ledger is closed")
        if self._waiting >= MAX_WAITING:
            raise LedgerOverloaded(f"{MAX_WAITING} writes are waiting already")
        self._waiting += 1
        job = _Job(work, self._loop.create_future())
        self._jobs.put(job)
        patience = None if within_s is None else self._loop.call_later(within_s, self._take_back, job)
        try:
            result: T = await job.future
        finally:
            if patience is not None:
                patience.cancel()
        return result

    async def close(self) -> None:
        """Waits for the writes that were accepted, then closes the connection. A disk that hangs is not waited for."""
        self._closed = True
        self._jobs.end()
        await asyncio.to_thread(self._thread.join, CLOSE_WITHIN_S)
        if self._thread.is_alive():
            self.broken.set()

    def distrust(self) -> None:
        """What is written from now on would be lost: no write is taken any more."""
        self.broken.set()
        self._refuse_the_rest()

    def _take_back(self, job: _Job) -> None:
        if self._jobs.take_back(job):
            self._waiting -= 1
            job.fault = LedgerOverloaded("the disk is slow: the write was not begun in time")
            job.deliver()

    def _serve(self) -> None:
        fault: LedgerError | None = None
        group: list[_Job] = []
        try:
            while not isinstance(fault, LedgerUndecided) and (group := self._jobs.take(MAX_GROUP)):
                began = self._clock.monotonic()
                fault = self._commit(group)
                self._loop.call_soon_threadsafe(self._deliver, group, self._clock.monotonic() - began, fault)
        except BaseException:  # noqa: BLE001 - a thread that dies unseen would leave every later order waiting
            self._loop.call_soon_threadsafe(self._abandon, group)
        close(self._connection)

    def _abandon(self, group: list[_Job]) -> None:
        """The thread is gone with this group in hand; whether it was committed cannot be known."""
        self.broken.set()
        for job in group:
            job.fault = LedgerUndecided("the writer died")
            job.deliver()
        self._refuse_the_rest()

    def _commit(self, group: list[_Job]) -> LedgerError | None:
        try:
            with transaction(self._connection):
                for job in group:
                    if not job.run(self._connection):
                        self._undone()
        except LedgerError as caught:
            fault = caught
        except BaseException as caught:  # noqa: BLE001 - no memory, say: whether it was committed cannot be known
            fault = LedgerUndecided(f"the writer failed: {type(caught).__name__}")
        else:
            return None
        self._undone()
        for job in group:
            job.fault = fault
        return fault

    def _deliver(self, group: list[_Job], seconds: float, fault: LedgerError | None) -> None:
        self._waiting -= len(group)
        if isinstance(fault, LedgerUndecided):
            self.broken.set()
        try:
            for job in group:
                job.deliver()
            self._on_commit(seconds, fault)
        except BaseException:  # whoever waits would wait for ever
            self._abandon(group)
            raise
        if self.broken.is_set():
            self._refuse_the_rest()

    def _refuse_the_rest(self) -> None:
        """Jobs that were queued behind the broken group: nothing of them was written."""
        for job in self._jobs.take_all():
            self._waiting -= 1
            job.fault = LedgerClosed("not written: the ledger broke before")
            job.deliver()
