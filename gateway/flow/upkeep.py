"""What goes on beside the orders: following the directory, proving that the ledger takes writes, counting.

Each loop is supervised: what it raises is logged, and it goes on. None of them touches an order.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from gateway.broker.directory import Directory, LentKey
from gateway.clock import Clock
from gateway.core.budget import Allowance
from gateway.core.budget_terms import Terms
from gateway.core.directory import DirectoryRows
from gateway.core.lifecycle import Outcome
from gateway.errors import LedgerError
from gateway.flow.intake import Intake
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics

FOLLOW_EVERY_S: Final = 0.25
"""A change must act within 1 s: two looks, one of them slow, fit into that."""

BEAT_EVERY_S: Final = 1.0
READY_WITHIN_S: Final = 5.0
"""A ledger write must have succeeded within this for the instance to be ready."""

COUNT_EVERY_S: Final = 2.0
RECOVER_EVERY_S: Final = 2.0
"""A process that is gone must not keep its orders for more than 10 s."""

REAP_EVERY_S: Final = 5.0
NOTE_EVERY_S: Final = 10.0
"""How long after a token was first shown on a day that is written down. A process that ends in between forgets it."""

REJOIN_NEEDED: Final = "rejoin needed"


class Watched(Protocol):
    """The part of the ledger that upkeep needs."""

    async def beat(self) -> None: ...
    async def note_used(self, days: Mapping[str, int]) -> None: ...
    async def recover(self, in_hand: Callable[[], Collection[str]]) -> tuple[int, int]: ...
    async def reap(self, ttl_s: float) -> int: ...
    async def directory_version(self) -> int: ...
    async def directory_rows(self) -> DirectoryRows: ...
    async def in_quarantine(self) -> bool: ...
    async def unsettled(self) -> dict[Outcome, int]: ...
    async def allowances(self, terms: Sequence[Terms]) -> list[tuple[Allowance, ...]]: ...


class Readiness:
    """Whether this instance should be sent orders, and if not, why."""

    def __init__(self, *, clock: Clock, intake: Intake, folder: Path, min_free_bytes: int) -> None:
        self._clock = clock
        self._intake = intake
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        self._wrote_at: float | None = None

    def wrote(self) -> None:
        self._wrote_at = self._clock.monotonic()

    def reasons(self) -> list[str]:
        """Empty where the instance is ready."""
        found = ["draining"] if self._intake.draining else []
        if self._intake.quarantined:
            found.append(REJOIN_NEEDED)
        if self._wrote_at is None or self._clock.monotonic() - self._wrote_at > READY_WITHIN_S:
            found.append(f"no ledger write has succeeded for {READY_WITHIN_S:g} s")
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError:
            found.append("the ledger's disk cannot be read")
        else:
            if free < self._min_free_bytes:
                found.append(f"the ledger's disk has {free} bytes free, {self._min_free_bytes} are needed")
        return found


class Upkeep:
    """The loops of one instance; `run` goes on until it is cancelled."""

    def __init__(
        self,
        *,
        ledger: Watched,
        directory: Directory,
        intake: Intake,
        readiness: Readiness,
        metrics: Metrics,
        log: Log,
        ttl_s: float,
        implicit_window_s: float,
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._intake = intake
        self._readiness = readiness
        self._metrics = metrics
        self._log = log
        self._ttl_s = ttl_s
        self._implicit_window_s = implicit_window_s

    def keep(self, *, ttl_s: float, implicit_window_s: float) -> None:
        """How long orders are kept, from the next look on."""
        self._ttl_s = ttl_s
        self._implicit_window_s = implicit_window_s

    async def run(self) -> None:
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._every(FOLLOW_EVERY_S, self._follow))
            loops.create_task(self._every(BEAT_EVERY_S, self.beat))
            loops.create_task(self._every(COUNT_EVERY_S, self._count))
            loops.create_task(self._every(RECOVER_EVERY_S, self._recover))
            loops.create_task(self._every(REAP_EVERY_S, self._reap))
            loops.create_task(self._every(NOTE_EVERY_S, self._note_used))

    async def _every(self, seconds: float, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except LedgerError as fault:
                self._log.warning("ledger", where=step.__name__, error=str(fault))
            except Exception:  # noqa: BLE001 - a defect in one loop must not end it, nor the others
                self._log.exception("defect", where=step.__name__)
            await asyncio.sleep(seconds)

    async def _follow(self) -> None:
        before = self._directory.snapshot
        if await self._ledger.directory_version() == before.version and before.behind is None:
            return
        rows = await self._ledger.directory_rows()
        # Its end moves the version too. A quarantine begins only while nobody serves.
        self._intake.quarantined = await self._ledger.in_quarantine()
        self._directory.replace(rows)
        self._metrics.know(rows.tenants)
        behind = self._directory.snapshot.behind
        if behind is not None and behind != before.behind:
            self._log.error("master_key", error=behind)
        elif behind is None and (rows.master_version != before.rows.master_version or before.behind):
            self._log.info("master_key", version=rows.master_version)

    async def beat(self) -> None:
        """One durable write, by which readiness knows."""
        await self._ledger.beat()
        self._readiness.wrote()

    async def _count(self) -> None:
        self._metrics.unsettled(await self._ledger.unsettled())
        terms = {}
        for team_id, team in self._directory.teams():
            key = self._directory.key_of(team_id)
            if isinstance(key, LentKey) and key.terms is not None and key.terms.divisions:
                terms[team] = key.terms
        for team, allowances in zip(terms, await self._ledger.allowances(list(terms.values())), strict=True):
            for each in allowances:
                self._metrics.budget(team, each.window, limit=each.limit, left=each.left_in_all)

    async def _recover(self) -> None:
        await recover(self._ledger, self._intake, self._log)

    async def _reap(self) -> None:
        if forgotten := await self._ledger.reap(self._kept_s()):
            self._log.info("reaped", count=forgotten)

    async def _note_used(self) -> None:
        """At most one write a day for each token and process, and mostly one for many tokens."""
        used = self._directory.take_used()
        if not used:
            return
        try:
            await self._ledger.note_used(used)
        except LedgerError:
            self._directory.give_back_used(used)
            raise

    def _kept_s(self) -> float:
        """For how long after it settled an order may still be named: by its key, or by its body, whoever's it is."""
        windows = [tenant.implicit_window_s or 0 for tenant in self._directory.snapshot.rows.tenants]
        return max(self._ttl_s, self._implicit_window_s, *windows)


async def recover(ledger: Watched, intake: Intake, log: Log) -> None:
    """Takes over what is in nobody's hand any more, and says so."""
    unknown, not_placed = await ledger.recover(intake.in_hand)
    for outcome, count in (("unknown", unknown), ("not_placed", not_placed)):
        if count:
            log.warning("recovered", outcome=outcome, count=count)
