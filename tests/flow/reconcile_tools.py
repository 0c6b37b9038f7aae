"""Reconciling in virtual time: a real ledger, a clock that a test moves, an OfferGrid that lists what it is told."""

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from gateway.broker.directory import KeyUnreadable, LentKey
from gateway.broker.vault import Secret
from gateway.core.absence import Mode, Terms
from gateway.core.evidence import Answered, Evidence
from gateway.core.lifecycle import Outcome
from gateway.flow.intake import Intake
from gateway.flow.reconcile import Reconciler
from gateway.ledger.interface import Claimed, StoredOrder, UnknownOrder
from gateway.ledger.sqlite import SqliteLedger
from gateway.telemetry.logs import make_log
from gateway.telemetry.metrics import Metrics
from tests.ledger.ledger_tools import ENDED, VAULT, claimed, end, new_order

LEDGER_ID = "ledger-1"
TEAMS = {1: "team-1", 2: "team-2"}
SETTLE, INTERVAL, WATCH = 60.0, 5.0, 3_600.0


class MovedClock:
    """Stands still until it is moved. Wall and monotonic time move together."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def wall_ms(self) -> int:
        return 1_767_323_045_678 + int(self.now * 1000)

    def monotonic(self) -> float:
        return self.now

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


Row = dict[str, Any]


def entry(upstream_id: str, order_id: str | None = None, *, ledger: str = LEDGER_ID) -> Row:
    metadata = {"gatewayOrderId": order_id, "gatewayLedger": ledger} if order_id else {}
    return {"orderId": upstream_id, "status": "pending", "metadata": metadata}


def answer(rows: Sequence[Row] | dict[str, Any], *, status: int = 200, link: str | None = None) -> Answered:
    return Answered(status=status, body=json.dumps(rows).encode(), link=link)


class Grid:
    """What it lists, by team's key; `says` where a test wants it to say something else. Notes when it was asked."""

    def __init__(self, clock: MovedClock) -> None:
        self._clock = clock
        self.rows: dict[str, list[Row]] = {}
        self.says: Callable[[str, str | None], Evidence | Awaitable[Evidence]] | None = None
        self.asked: list[tuple[float, str, str | None]] = []

    async def list_orders(
        self, *, key: Secret, deadline: float, page: str | None = None, spent_bytes: int = 0
    ) -> Evidence:
        assert deadline > self._clock.monotonic() and spent_bytes >= 0
        team = key.reveal()
        self.asked.append((self._clock.now, team, page))
        if self.says is None:
            return answer(self.rows.get(team, []))
        said = self.says(team, page)
        return said if isinstance(said, msgspec.Struct) else await said


class Keys(dict[int, LentKey | KeyUnreadable]):
    def __init__(self) -> None:
        super().__init__({at: LentKey(key_id=name, secret=Secret(name)) for at, name in TEAMS.items()})
        self.names = dict(TEAMS)

    def key_of(self, team_id: int) -> LentKey | KeyUnreadable | None:
        return self.get(team_id)

    def teams(self) -> list[tuple[int, str]]:
        return list(self.names.items())


class Room(msgspec.Struct, kw_only=True):
    """One process that reconciles."""

    path: Path
    clock: MovedClock
    ledger: SqliteLedger
    grid: Grid
    keys: Keys
    intake: Intake
    metrics: Metrics
    log: io.StringIO
    reconciler: Reconciler

    async def pass_by(self, seconds: float, step: float = 1.0) -> None:
        """Time passes, and the reconciler wakes as often as it would."""
        until = self.clock.now + seconds
        while True:
            async with asyncio.TaskGroup() as looks:
                await self.reconciler._start_looking(looks)
            if self.clock.now >= until:
                return
            self.clock.now = min(until, self.clock.now + step)

    async def order(
        self,
        outcome: Outcome = "unknown",
        upstream_id: str | None = None,
        *,
        key: str | None = None,
        team_id: int = 1,
    ) -> str:
        """An order that ended so. One that is placed is listed too."""
        taken = await claimed(self.ledger, new_order(key, team_id=team_id))
        await self.ends(taken, outcome, upstream_id)
        if upstream_id is not None:
            self.grid.rows.setdefault(TEAMS[team_id], []).append(entry(upstream_id, taken.order_id))
        return taken.order_id

    async def ends(self, taken: Claimed, outcome: Outcome, upstream_id: str | None = None) -> None:
        await self.ledger.settle(taken, ENDED, end(outcome, upstream_id))

    async def stored(self, order_id: str) -> StoredOrder:
        found = await self.ledger.find(order_id, tenant_id=None)
        assert found is not None
        return found

    async def outcome(self, order_id: str) -> str:
        return (await self.stored(order_id)).outcome

    async def only_unknown(self) -> UnknownOrder:
        (order,) = await self.ledger.unknown()
        return order

    def lists(self, *rows: Row, team: str = "team-1") -> None:
        self.grid.rows.setdefault(team, []).extend(rows)

    def count(self, line: str) -> float:
        text = self.metrics.render("")[0].decode()
        return next(float(found.rpartition(" ")[2]) for found in text.splitlines() if found.startswith(line + " "))

    def results(self) -> dict[str, int]:
        text = self.metrics.render("")[0].decode()
        start = 'ordergate_reconciliations_total{result="'
        found = [line[len(start) :].split('"} ') for line in text.splitlines() if line.startswith(start)]
        return {result: int(float(count)) for result, count in found if float(count)}

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


@asynccontextmanager
async def a_room(
    path: Path,
    *,
    mode: Mode = "witnessed",
    clock: MovedClock | None = None,
    grid: Grid | None = None,
    per_minute: int = 5,
    terms: Terms | None = None,
) -> AsyncIterator[Room]:
    """A process on the ledger in `path`. With the clock and the OfferGrid of an earlier one it is a restart."""
    clock = clock or MovedClock()
    grid = grid or Grid(clock)
    stream = io.StringIO()
    metrics = Metrics(version="0", spec_digest="0")
    keys, intake = Keys(), Intake()
    ledger = SqliteLedger(path, VAULT, clock, lambda *_: None)
    terms = structs.replace(terms or Terms(mode=mode, settle_after_s=SETTLE, interval_s=INTERVAL), mode=mode)
    log = make_log(level="info", style="json", clock=clock, stream=stream)
    try:
        reconciler = Reconciler(
            ledger=ledger, ledger_id=LEDGER_ID, upstream=grid, keys=keys, intake=intake, clock=clock, metrics=metrics,
            log=log, terms=terms, per_minute=per_minute, watch_s=WATCH, sleep=clock.sleep,
        )  # fmt: skip
        yield Room(
            path=path, clock=clock, ledger=ledger, grid=grid, keys=keys, intake=intake, metrics=metrics, log=stream,
            reconciler=reconciler,
        )  # fmt: skip
    finally:
        await ledger.close()
