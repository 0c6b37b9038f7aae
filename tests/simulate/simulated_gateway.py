"""One process of the gateway in a simulated machine: the real flow, reconciling, upkeep and ledger, wired as in use.

Replaced are the clock, the seals (real cryptography costs more than all the rest), the metrics and the log (tallies of
what was counted and said), the writer's thread and the connection to the disk.
"""

import asyncio
import hashlib
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from unittest import mock

import apsw

from gateway.broker.directory import Directory
from gateway.broker.vault import Secret
from gateway.clock import Clock
from gateway.errors import LedgerError, LedgerUndecided, SealBroken, StorageUnreachable
from gateway.flow import reconcile, upkeep
from gateway.flow.answer import Answer
from gateway.flow.intake import Intake
from gateway.flow.place_order import OrderFlow
from gateway.flow.ports import OrderRequest
from gateway.flow.upkeep import Readiness, Upkeep, recover
from gateway.ledger import sqlite, sqlite_reader
from gateway.ledger.interface import Resolution
from gateway.ledger.ledger_time import LedgerTime
from gateway.ledger.sqlite import SqliteLedger
from gateway.ledger.sqlite_engine import _configure
from gateway.ledger.sqlite_writer import MAX_GROUP, Writer, _Queue
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics, OrderTimes
from gateway.upstream.operations import OfferGrid
from gateway.wiring.assembly import Parts, order_flow, reconciler
from gateway.wiring.reloading import Live
from gateway.wiring.stopping import Stopping
from gateway.wiring.storage import Storage
from tests.simulate.simulated_disk import Disk, SimulatedConnection
from tests.simulate.simulated_upstream import Accounts, Port
from tests.simulate.virtual_loop import HOST, Host
from tests.simulate.world import World

T = TypeVar("T")
SELDOM: Final = {
    "FOLLOW_EVERY_S": 5, "BEAT_EVERY_S": 60, "COUNT_EVERY_S": 120, "RECOVER_EVERY_S": 6, "REAP_EVERY_S": 15,
}  # fmt: skip
"""What upkeep does, as often as histories need it: each look costs real time."""

LEDGER_ID: Final = "ledger-1"
EPOCH_MS: Final = 1_767_225_600_000


class SimulatedClock:
    """The loop's time; a wall clock that can be set; random bytes of the seed."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.wall_offset_s = 0.0
        self.booted_at = 0.0

    def wall_ms(self) -> int:
        return EPOCH_MS + round((self._world.loop.time() + self.wall_offset_s) * 1000)

    def monotonic(self) -> float:
        return self._world.loop.time() - self.booted_at

    def random_bytes(self, count: int) -> bytes:
        return self._world.chance.randbytes(count)


class PlainSeals:
    """Binds content to its place as the vault does, and hides nothing."""

    def seal(self, plaintext: bytes, *, table: str, row: str, column: str) -> bytes:
        return f"{table}/{row}/{column}:".encode() + plaintext

    def open(self, sealed: bytes, *, table: str, row: str, column: str) -> bytes:
        place = f"{table}/{row}/{column}:".encode()
        if not sealed.startswith(place):
            raise SealBroken(f"not sealed for {table}.{column}")
        return sealed[len(place) :]

    def open_secret(self, sealed: bytes, *, table: str, row: str, column: str) -> Secret:
        return Secret(self.open(sealed, table=table, row=row, column=column).decode())

    def mac(self, purpose: str, data: bytes) -> bytes:
        return hashlib.blake2b(data, digest_size=32, person=purpose[:16].encode()).digest()


class Tally:
    """Stands for the metrics: counts calls, and what they were called with where that is a count."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()

    def upstream_in_flight(self) -> AbstractContextManager[None]:
        return nullcontext()

    def duplicates(self, count: int) -> None:
        self.counted["duplicates"] += count

    def __getattr__(self, name: str) -> Callable[..., None]:
        def count(*_: object, **__: object) -> None:
            self.counted[name] += 1

        return count


class Listener:
    """Stands for the log: a defect that the gateway met in itself is a fault of the history."""

    def __init__(self, world: World) -> None:
        self._world = world

    def exception(self, _event: str, **about: object) -> None:
        self._world.wrong(f"the gateway met a defect: {about} {traceback.format_exc(limit=-3)}")

    def _say(self, event: str, **_: object) -> None:
        self._world.seen[f"log {event}"] += 1

    debug = info = warning = error = _say


class SteppedWriter(Writer):
    """The real writer's groups, committed in one piece each, at a moment that is drawn."""

    def __init__(  # the thread is what must not begin
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
        self._disk = cast(SimulatedConnection, connection)._disk
        self._scheduled = False
        self._told_at = 0.0
        self._ended = asyncio.Event()

    async def run(self, work: Callable[[apsw.Connection], T], *, within_s: float | None = None) -> T:
        self._schedule()
        return await super().run(work, within_s=within_s)

    async def close(self) -> None:
        self._closed = True
        self._jobs.end()
        self._schedule()
        if not self.broken.is_set():
            await self._ended.wait()

    def _schedule(self) -> None:
        if not self._scheduled and not self._ended.is_set():
            self._scheduled = True
            self._loop.call_later(self._disk.takes_s(), self._step)

    def _step(self) -> None:
        """One round of the writer's thread."""
        self._scheduled = False
        if not self._jobs:  # refused, or taken back, meanwhile
            if self._closed:
                self._ended.set()
            return
        group = self._jobs.take(MAX_GROUP)
        fault = self._commit(group)
        self._disk.world.note("committed" if fault is None else "not_committed", HOST.get())
        # Told in another step: a process can die in between, and some of the group hear of it before others.
        self._told_at = max(self._told_at, self._loop.time() + self._disk.takes_s())
        self._loop.call_at(self._told_at, self._deliver, group, 0.001, fault)
        if isinstance(fault, LedgerUndecided):
            self._ended.set()
        elif self._jobs or self._closed:
            self._schedule()


class Machine:
    """What the processes share: the disk, the folder with the locks, the clock."""

    def __init__(self, world: World, disk: Disk, grid: Accounts, folder: Path, teams: dict[str, int]) -> None:
        self.world = world
        self.disk = disk
        self.grid = grid
        self.path = folder / "ledger.db"
        self.clock = SimulatedClock(world)
        self.teams = teams
        self.tally = Tally()
        self.log = Listener(world)
        self.seals = PlainSeals()
        self.boots = 0
        self.settings = world.plan.settings.of_the_gateway()
        self.storage = Storage(
            path=self.path, directory=cast(Any, None), vault=cast(Any, self.seals), ledger_id=LEDGER_ID
        )
        for end in ("", "-wal", "-shm"):  # looked at, and never read
            folder.joinpath(f"{self.path.name}{end}").touch()
        folder.joinpath(f"{self.path.name}.mark").unlink(missing_ok=True)  # an earlier history's

    def reboot(self) -> None:
        self.clock.booted_at = self.world.loop.time()
        self.boots += 1

    def ledger_time(self, connection: apsw.Connection, clock: Clock) -> LedgerTime:
        return LedgerTime(connection, clock, boot=lambda: f"boot-{self.boots}")

    def connect(self, _path: Path) -> SimulatedConnection:
        connection = self.disk.connection()
        _configure(cast(apsw.Connection, connection), self.path)
        return connection

    def standing_in(self) -> AbstractContextManager[Any]:
        """The ledger of every process opens its file here, and writes without a thread."""
        stack = ExitStack()
        stack.enter_context(
            mock.patch.multiple(sqlite, connect=self.connect, Writer=SteppedWriter, LedgerTime=self.ledger_time)
        )
        stack.enter_context(mock.patch.object(sqlite_reader, "connect", self.connect))
        stack.enter_context(mock.patch.multiple(upkeep, **SELDOM))  # type: ignore[call-overload]  # names are data
        stack.enter_context(mock.patch.object(reconcile, "POLL_S", 6))
        return stack


class GatewayProcess(Host):
    """From start to end. `accepts`: its listener is open."""

    def __init__(self, machine: Machine, slot: int, number: int, gone: Callable[["GatewayProcess"], None]) -> None:
        super().__init__(f"gateway{slot}.{number}")
        self.slot = slot
        self.accepts = False
        self.stopping = asyncio.Event()
        self.callers: list[asyncio.Future[Answer | Exception | None]] = []
        self._machine = machine
        self._gone = gone
        self._ledger: SqliteLedger | None = None
        self._intake = Intake()
        self._flow: OrderFlow | None = None

    def start(self) -> None:
        loop = self._machine.world.loop
        loop.run_host(self, lambda: loop.create_task(self._run()))

    def die(self) -> None:
        """Nothing of it runs any more, and the kernel closes its files."""
        if self.dead:
            return
        self.dead, self.accepts, self.paused = True, False, False
        self.held.clear()
        self.let_go()
        self._machine.grid.gone(self)
        for caller in self.callers:
            self._machine.world.later(self._machine.world.soon(0.5), _hear_nothing, caller)
        self._gone(self)

    def take(self, request: OrderRequest, tell: Callable[[Answer | Exception], None]) -> "asyncio.Task[None]":
        """A request arrives; `tell` is called with its answer, if there is ever one. Cancelling it hangs up."""

        async def answer() -> None:
            assert self._flow is not None
            try:
                told: Answer | Exception = await self._flow.place(request, OrderTimes())
            except asyncio.CancelledError:
                raise
            except Exception as fault:  # noqa: BLE001 - problems are answers; what else it is, is judged by the check
                told = fault
            tell(told)

        loop = self._machine.world.loop
        return loop.run_host(self, lambda: loop.create_task(answer()))

    def resolve(self, order_id: str, placed_as: str | None) -> None:
        """An operator's word on an unknown order."""
        machine, ledger = self._machine, self._ledger
        by = Resolution(
            order_id=order_id, placed_as=placed_as, reason="a look", who="operator", at_ms=machine.clock.wall_ms()
        )

        async def resolve() -> None:
            assert ledger is not None
            with suppress(LedgerError):
                await ledger.resolve(by, watch_ms=round(machine.settings.reconcile.watch_s * 1000))
                machine.world.note("resolved", self, f"{order_id} {placed_as}")

        if ledger is not None:
            machine.world.loop.run_host(self, lambda: machine.world.loop.create_task(resolve()))

    async def _run(self) -> None:
        machine, settings = self._machine, self._machine.settings
        await asyncio.sleep(machine.world.soon(1))
        try:
            ledger = self._ledger = SqliteLedger(
                machine.path, cast(Any, machine.seals), machine.clock, lambda *_: None
            )
            await recover(ledger, self._intake, cast(Log, machine.log))
            directory = Directory(await ledger.directory_rows(), cast(Any, machine.seals), machine.clock)
            self._intake.quarantined = await ledger.in_quarantine()
        except (LedgerError, StorageUnreachable, apsw.Error):
            machine.world.note("start_failed", self)
            return self.die()
        readiness = Readiness(
            clock=machine.clock, intake=self._intake, folder=machine.path.parent, min_free_bytes=0
        )
        parts = Parts(
            settings=settings, clock=machine.clock, log=cast(Log, machine.log), metrics=cast(Metrics, machine.tally),
            storage=machine.storage, ledger=ledger, directory=directory, intake=self._intake, readiness=readiness,
            stopping=Stopping(machine.clock, settings.shutdown.drain_s), live=Live(settings), failed=asyncio.Event(),
        )  # fmt: skip
        upstream = cast(OfferGrid, Port(machine.grid, self, machine.clock, machine.teams))
        self._flow = order_flow(parts, upstream)
        keeping = Upkeep(
            ledger=ledger, directory=directory, intake=self._intake, readiness=readiness, metrics=parts.metrics,
            log=parts.log, ttl_s=settings.idempotency.ttl_s,
            implicit_window_s=settings.idempotency.implicit_window_s,
        )  # fmt: skip
        beside = [asyncio.create_task(reconciler(parts, upstream).run()), asyncio.create_task(keeping.run())]
        self.accepts = True
        machine.world.note("started", self)
        await self._until_stopped(ledger)
        self._intake.begin_draining()
        await asyncio.sleep(0.01)
        self.accepts = False
        await self._intake.drain(settings.shutdown.drain_s)
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)
        await ledger.close()
        machine.world.note("stopped", self)
        self._ledger = None
        self.die()
        return None

    async def _until_stopped(self, ledger: SqliteLedger) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (self.stopping, ledger.broken)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def let_go(self) -> None:
        """After the history: closes what it still has open."""
        if self._ledger is not None:
            self._ledger._owner.release()
            self._ledger = None


def _hear_nothing(caller: "asyncio.Future[Answer | Exception | None]") -> None:
    """The connection is reset."""
    if not caller.done():
        caller.set_result(None)
