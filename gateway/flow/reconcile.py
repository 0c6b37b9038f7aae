"""Finding out about `unknown` orders by looking at OfferGrid's listing, never by sending.

What is found is believed: an order that stands in the listing with this gateway's order id is `placed`. That it does
not stand there is believed only of complete looks that agree (`core.absence`): then it is `not_placed`, and watched.

One listing serves all of a team's orders. Teams are looked at side by side, so that one whose key is refused or whose
listing hangs holds up no other; and each at its own pace (`core.cadence`), so that orders keep their part of the key's
limit. Of several processes on one ledger one looks.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Literal, Protocol

from gateway.broker.directory import LentKey
from gateway.clock import Clock
from gateway.core.absence import WITNESS_BEFORE_MS, Absence, Finding, Terms, Witnesses
from gateway.core.cadence import Cadence
from gateway.errors import LedgerError
from gateway.flow.findings import Findings, Listed, Settles, Tally
from gateway.flow.intake import Intake
from gateway.flow.looking import MAX_FOREIGN, LendsKey, Lists, Looker, Shown, Wanted
from gateway.flow.ports import CountsReads
from gateway.ledger.interface import OrderState, UnknownOrder, WatchedOrder
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics

POLL_S: Final = 1.0
"""Between two questions to the ledger, at most: no longer does an order that became unknown wait to be seen."""

CHUNK: Final = 500
"""Orders that a patrol reads from the ledger at a time: others wait for the same reader."""

Result = Literal["found", "absent", "nothing", "incomplete", "failed", "unreadable", "no_key"]


class Reconciles(Settles, CountsReads, Protocol):
    """The part of the ledger that is needed here. All but `leads` raise LedgerError."""

    def leads(self) -> bool: ...
    async def unknown(self) -> Sequence[UnknownOrder]: ...
    async def watched(self) -> Sequence[WatchedOrder]: ...
    async def witnesses(self, team_id: int, since_tick: int) -> Witnesses: ...
    async def states(self, team_id: int, order_ids: Sequence[str]) -> Sequence[OrderState]: ...


class KnowsTeams(LendsKey, Protocol):
    def teams(self) -> Iterable[tuple[int, str]]: ...


class Pass(Tally, kw_only=True):
    """What one pass over all teams came to. `unknown`: orders that nobody is sure of, before it and after it.

    `seconds`: what it took, which is what the longest listing took.
    """

    seconds: float = 0.0
    looks: int = 0
    failed: int = 0
    unknown_before: int = 0
    unknown_after: int = 0


class _Team:
    """What one process knows of one team."""

    def __init__(self, team_id: int, name: str, absence: Absence, cadence: Cadence) -> None:
        self.team_id = team_id
        self.name = name
        self.absence = absence
        self.cadence = cadence
        self.idle = asyncio.Event()
        self.idle.set()
        self.unknown: list[UnknownOrder] = []
        self.watched: list[str] = []
        self.foreign: set[str] = set()

    @property
    def looking(self) -> bool:
        return not self.idle.is_set()


class Reconciler:
    """Looks for orders for as long as `run` runs, or once. Belongs to one event loop.

    `per_minute`: calls for one team in any minute.
    """

    def __init__(
        self,
        *,
        ledger: Reconciles,
        ledger_id: str,
        upstream: Lists,
        keys: KnowsTeams,
        intake: Intake,
        clock: Clock,
        metrics: Metrics,
        log: Log,
        terms: Terms,
        watch_s: float,
        per_minute: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ledger = ledger
        self._keys = keys
        self._intake = intake
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._terms = terms
        self._per_minute = per_minute
        self._looker = Looker(
            upstream=upstream, keys=keys, reads=ledger, clock=clock, metrics=metrics, ledger_id=ledger_id,
            mode=terms.mode, log=log, sleep=sleep,
        )  # fmt: skip
        self._findings = Findings(ledger=ledger, clock=clock, metrics=metrics, log=log, watch_s=watch_s)
        self._teams: dict[int, _Team] = {}
        self._first = True

    async def run(self) -> None:
        async with asyncio.TaskGroup() as looks:
            while True:
                try:
                    await self._start_looking(looks)
                except LedgerError as fault:
                    self._log.warning("ledger", where="reconcile", error=str(fault))
                except Exception:  # noqa: BLE001 - a defect must not end the looking for good
                    self._log.exception("defect", where="reconcile")
                await asyncio.sleep(min(POLL_S, self._terms.interval_s / 5))

    async def once(self) -> Pass:
        """One look at every team, at all that is listed, whoever leads. It finds orders; absence takes one who stays.
        Beside `run` each team waits for the look that is under way, and all keep to the same pace.

        Raises LedgerError where the ledger cannot be read; a look's own trouble is logged and counted.
        """
        came_to = Pass()
        await self._see(await self._ledger.unknown())
        came_to.unknown_before = sum(len(team.unknown) for team in self._teams.values())
        began, looks = (
            self._clock.monotonic(),
            [self._look_in_turn(team, came_to) for team in self._teams.values()],
        )
        results = await asyncio.gather(*looks)
        came_to.seconds = self._clock.monotonic() - began
        came_to.looks = len(results)
        came_to.failed = sum(result in (None, "failed", "unreadable", "no_key") for result in results)
        came_to.unknown_after = len(await self._ledger.unknown())
        return came_to

    async def _start_looking(self, looks: asyncio.TaskGroup) -> None:
        """A look for each team that is due for one, is not being looked at, and has calls to spare."""
        unknown = await self._ledger.unknown()
        self._metrics.oldest_unknown(min((order.created_ms for order in unknown), default=None))
        # Nothing is seen either: an order's time begins where this process leads. A ledger in quarantine is looked
        # after by a rejoin, which knows of more than the unknown ones.
        if self._intake.quarantined or not self._ledger.leads():
            return
        await self._see(unknown)
        now = self._clock.monotonic()
        for team in self._teams.values():
            if not team.looking and self._is_due(team, now):
                team.idle.clear()
                looks.create_task(self._look_safely(team, patrol=team.cadence.patrol_due(now), tally=Tally()))

    def _is_due(self, team: _Team, now: float) -> bool:
        if not team.cadence.due(now, first_seen=team.absence.first_seen, watched=bool(team.watched)):
            return False
        idle = not team.unknown and not team.watched
        if idle and not isinstance(self._keys.key_of(team.team_id), LentKey):
            return False
        return team.cadence.may_begin(now, team.absence.last_ripe)

    async def _see(self, unknown: Sequence[UnknownOrder]) -> None:
        """Brings the teams up to date."""
        orders: defaultdict[int, list[UnknownOrder]] = defaultdict(list)
        watched: defaultdict[int, list[str]] = defaultdict(list)
        names = dict(self._keys.teams())
        for order in unknown:
            orders[order.team_id].append(order)
            names.setdefault(order.team_id, order.team)
        for watched_order in await self._ledger.watched():
            watched[watched_order.team_id].append(watched_order.order_id)
            names.setdefault(watched_order.team_id, watched_order.team)
        now = self._clock.monotonic()
        for gone in self._teams.keys() - names.keys():
            del self._teams[gone]
        for team_id, name in names.items():
            team = self._teams.get(team_id)
            if team is None:
                at_once = self._first and bool(orders[team_id])
                team = self._teams[team_id] = self._new_team(team_id, name, now, at_once=at_once)
            team.unknown, team.watched = orders[team_id], watched[team_id]
            team.absence.see(team.unknown, now)
        self._first = False

    def _new_team(self, team_id: int, name: str, now: float, *, at_once: bool) -> _Team:
        cadence = Cadence(
            interval_s=self._terms.interval_s,
            settle_after_s=self._terms.settle_after_s,
            per_minute=self._per_minute,
            started=now,
            at_once=at_once,
        )
        return _Team(team_id, name, Absence(self._terms), cadence)

    async def _look_in_turn(self, team: _Team, tally: Tally) -> Result | None:
        while team.looking:
            await team.idle.wait()
        team.idle.clear()
        return await self._look_safely(team, patrol=True, tally=tally)

    async def _look_safely(self, team: _Team, *, patrol: bool, tally: Tally) -> Result | None:
        """What came of one look; None where the ledger failed, or this program."""
        result: Result | None = None
        try:
            result = await self._look(team, patrol=patrol, tally=tally)
            self._metrics.reconciled(result)
        except LedgerError as fault:
            self._log.warning("ledger", where="reconcile", error=str(fault))
        except Exception:  # noqa: BLE001 - a defect met with one team must not end the loop for all
            self._log.exception("defect", where="reconcile")
        finally:
            team.idle.set()
        return result

    async def _look(self, team: _Team, *, patrol: bool, tally: Tally) -> Result:
        """One listing for all that the team has in doubt, or on a patrol for all that it has."""
        unknown, watched = team.unknown, team.watched
        ids = frozenset(order.order_id for order in unknown) | frozenset(watched)
        began = self._clock.monotonic()
        shown, mine = Shown(pages=0, trouble="failed"), Tally()
        finding: Finding | None = None
        try:
            # Before the listing is asked for: what is placed while it is on its way need not be in it.
            witnesses = await self._witnesses(team.team_id, unknown)
            wanted = Wanted(
                team_id=team.team_id, team=team.name, witnesses=witnesses, order_ids=None if patrol else ids
            )
            began = self._clock.monotonic()
            shown = await self._looker.look(wanted, team.cadence)
            began = began if shown.began is None else shown.began
            finding = team.absence.looked(began, shown.sight, unknown)
            await self._findings.unknown(unknown, shown.listed, mine)
            await self._compare(team, shown.listed, watched, patrol=patrol, tally=mine)
            await self._findings.absent(unknown, finding.absent, mine)
        finally:
            if finding is None:
                finding = team.absence.looked(began, None, unknown)
            complete = shown.whole and (finding.complete or self._terms.mode == "never")
            team.cadence.began(began)
            team.cadence.ended(
                good=complete or mine.found > 0,
                pages=shown.pages,
                patrolled_at=began if patrol and shown.trouble is None else None,
            )
            tally.add(mine)
        self._count_foreign(team, shown)
        return _result(shown, mine, complete=complete)

    async def _witnesses(self, team_id: int, unknown: Sequence[UnknownOrder]) -> Witnesses:
        if not unknown or self._terms.mode != "witnessed":
            return Witnesses()
        since = min(order.created_tick for order in unknown) - WITNESS_BEFORE_MS
        return await self._ledger.witnesses(team_id, since)

    async def _compare(
        self, team: _Team, listed: Listed, watched: Sequence[str], *, patrol: bool, tally: Tally
    ) -> None:
        """The watched orders that are listed, or on a patrol all, against the ledger as it is now."""
        ids = list(listed) if patrol else [order_id for order_id in watched if order_id in listed]
        for start in range(0, len(ids), CHUNK):
            states = await self._ledger.states(team.team_id, ids[start : start + CHUNK])
            await self._findings.others(team.name, states, listed, tally)

    def _count_foreign(self, team: _Team, shown: Shown) -> None:
        """Once an order and process. When the memory for it is full, nothing more is counted."""
        new = sorted(shown.foreign - team.foreign)[: MAX_FOREIGN - len(team.foreign)]
        if new:
            team.foreign.update(new)
            self._metrics.foreign_orders(len(new))
            self._log.error("foreign_orders", team=team.name, count=len(new), upstream_order_id=new[0])


def _result(shown: Shown, tally: Tally, *, complete: bool) -> Result:
    if tally.found or tally.late:
        return "found"
    if tally.absent:
        return "absent"
    if shown.trouble is not None:
        return shown.trouble
    return "nothing" if complete else "incomplete"
