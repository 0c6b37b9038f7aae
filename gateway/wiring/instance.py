"""One instance: starting, serving, draining.

The order of starting is the order of trust: the ledger, then what a process that is gone left in it, then the
ports. The order of stopping is the reverse, and every order in hand ends before the ledger closes.
"""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

import msgspec
from msgspec import structs

from gateway import __version__
from gateway.broker.directory import Directory
from gateway.clock import Clock, SystemClock
from gateway.errors import LedgerBusy, LedgerError, StorageUnreachable
from gateway.flow.intake import Intake
from gateway.flow.upkeep import REJOIN_NEEDED, Readiness, Upkeep, recover
from gateway.ledger.sqlite import SqliteLedger
from gateway.settings import Settings
from gateway.telemetry.logs import Log, Threshold, make_log
from gateway.telemetry.metrics import Metrics
from gateway.upstream.operations import SPEC_DIGEST
from gateway.web.edge import AsgiApp, Edge
from gateway.web.server import Server, address_of, bind
from gateway.web.watch import Limits
from gateway.wiring.assembly import Parts, admin_listener, reconciler, tenant_listener
from gateway.wiring.desk import open_desk
from gateway.wiring.reloading import Live, Reloader, Source
from gateway.wiring.stopping import Stopping
from gateway.wiring.storage import limits_of, open_to_serve
from gateway.wiring.upstream import open_upstream

EXIT_LEDGER_BROKEN: Final = StorageUnreachable.exit_code
ADMIN_DRAIN_S: Final = 1.0
START_TRIES: Final = 10  # of a second each


def serve(settings: Settings, source: Source) -> int:
    """Runs one instance until SIGTERM or SIGINT; the process's exit status. `source`: where settings come from."""
    return asyncio.run(_serve(settings, source))


async def _serve(settings: Settings, source: Source) -> int:
    clock = SystemClock()
    threshold = Threshold(settings.log.level)
    log = make_log(level=threshold, style=settings.log.format, clock=clock)
    stopping = Stopping(clock, settings.shutdown.drain_s)
    stopping.listen()
    live = Live(settings)
    live.follow(lambda new: threshold.change(new.log.level))
    # Not what it is by default, the end: a log's rotation or a closed terminal must cut no order off.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, live.asked.set)
    async with running(live, clock, log, stopping, source) as instance:
        log.info("ready", version=__version__)
        await instance.until_stopped()
        log.info("draining", count=len(instance.intake))
    return EXIT_LEDGER_BROKEN if instance.failed.is_set() else 0


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """What runs, for whoever has to stop it or ask it where it listens.

    `failed` is set where it cannot go on by itself: the ledger cannot be trusted, or a listener or a loop ended.
    """

    intake: Intake
    stopping: Stopping
    failed: asyncio.Event
    tenant_address: tuple[str, int]
    admin_address: tuple[str, int]

    async def until_stopped(self) -> None:
        """Returns when a signal asks to stop, or when the instance has failed."""
        waits = [asyncio.create_task(event.wait()) for event in (self.stopping.asked, self.failed)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


@asynccontextmanager
async def running(
    live: Live, clock: Clock, log: Log, stopping: Stopping, source: Source | None = None
) -> AsyncIterator[Instance]:
    """One instance: ready when the block is entered, drained when it is left. Without a source its settings stay."""
    settings = live.settings
    async with AsyncExitStack() as stack:
        parts = await _open_parts(stack, live, clock, log, stopping)
        await stack.enter_async_context(_beside(parts.ledger.broken.wait(), parts.failed))
        upstream = await stack.enter_async_context(open_upstream(settings, clock))
        upkeep = Upkeep(
            ledger=parts.ledger,
            directory=parts.directory,
            intake=parts.intake,
            readiness=parts.readiness,
            metrics=parts.metrics,
            log=log,
            ttl_s=settings.idempotency.ttl_s,
            implicit_window_s=settings.idempotency.implicit_window_s,
        )
        live.follow(lambda new: upkeep.keep(**structs.asdict(new.idempotency)))
        await _patiently(upkeep.beat)
        await stack.enter_async_context(_beside(upkeep.run(), parts.failed))
        looking = reconciler(parts, upstream)
        await stack.enter_async_context(_beside(looking.run(), parts.failed))
        desk = stack.enter_context(open_desk(parts, upstream, looking))
        admin = await stack.enter_async_context(_listening(parts, "admin", admin_listener(parts, desk)))
        stack.push_async_callback(lambda: parts.intake.drain(stopping.left_s()))
        tenant = await stack.enter_async_context(_listening(parts, "tenant", tenant_listener(parts, upstream)))
        if source is not None:
            reloader = Reloader(live=live, source=source, clock=clock, metrics=parts.metrics, log=log)
            await stack.enter_async_context(_beside(reloader.run(), parts.failed))
        gc.collect()
        gc.freeze()  # what was made at start stays: collections under load need not look at it
        try:
            yield Instance(
                intake=parts.intake,
                stopping=stopping,
                failed=parts.failed,
                tenant_address=tenant,
                admin_address=admin,
            )
        finally:
            stopping.begin()
            parts.intake.begin_draining()


async def _patiently(write: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A write of the start. Another process may hold the ledger for longer than a tenant would wait; none waits yet."""
    for _ in range(START_TRIES - 1):
        with suppress(LedgerBusy):
            return await write()
    return await write()


async def _open_parts(stack: AsyncExitStack, live: Live, clock: Clock, log: Log, stopping: Stopping) -> Parts:
    settings = live.settings
    metrics = Metrics(version=__version__, spec_digest=SPEC_DIGEST)
    storage = stack.enter_context(open_to_serve(settings, clock))
    ledger = SqliteLedger(storage.path, storage.vault, clock, _commit_watch(metrics, log))
    stack.push_async_callback(ledger.close)
    intake = Intake()
    await _patiently(lambda: recover(ledger, intake, log))
    directory = Directory(await ledger.directory_rows(), storage.vault, clock, limits_of(settings))
    metrics.know(directory.snapshot.rows.tenants)
    intake.quarantined = await ledger.in_quarantine()
    if intake.quarantined:
        log.error("quarantine", reason=REJOIN_NEEDED)
    readiness = Readiness(
        clock=clock, intake=intake, folder=storage.path.parent, min_free_bytes=settings.storage.min_free_bytes
    )
    return Parts(
        settings=settings,
        clock=clock,
        log=log,
        metrics=metrics,
        storage=storage,
        ledger=ledger,
        directory=directory,
        intake=intake,
        readiness=readiness,
        stopping=stopping,
        live=live,
        failed=asyncio.Event(),
    )


@asynccontextmanager
async def _listening(parts: Parts, listener: str, app: AsgiApp) -> AsyncIterator[tuple[str, int]]:
    """Serves `app` on its listener's address; at the end stops listening and waits for requests in hand."""
    settings = parts.settings
    place = settings.tenant_api if listener == "tenant" else settings.admin_api
    edge = Edge(
        app,
        listener=listener,
        max_header_bytes=settings.tenant_api.max_header_bytes,
        clock=parts.clock,
        metrics=parts.metrics,
        log=parts.log,
    )
    server = Server(edge, Limits.of(settings, listener), parts.clock)
    with bind(place.host, place.port, f"{listener}_api") as listening:
        host, port = address_of(listening)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        serving.add_done_callback(lambda _: None if server.should_exit else parts.failed.set())
        parts.log.info("listening", listener=listener, host=host, port=port)
        try:
            yield host, port
        finally:
            server.should_exit = True
            # Nobody waits for an operator's slow page; an order's answer is worth the whole patience.
            if not await parts.stopping.wait_for(serving, None if listener == "tenant" else ADMIN_DRAIN_S):
                server.force_exit = True
            await serving


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, object], failed: asyncio.Event) -> AsyncIterator[None]:
    """What goes on for as long as the block. Where it ends before, `failed` is set: without it a gateway would go on
    and follow no change any more, or look for no order. What it failed with ends the process once it has drained.
    """
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: None if done.cancelled() else failed.set())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _commit_watch(metrics: Metrics, log: Log) -> Callable[[float, LedgerError | None], None]:
    def watch(seconds: float, fault: LedgerError | None) -> None:
        metrics.commit(seconds, failed=fault is not None)
        if fault is not None:
            log.error("ledger", where="commit", reason=type(fault).__name__, error=str(fault))

    return watch
