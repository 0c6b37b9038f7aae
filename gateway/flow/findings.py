"""What a look showed, held against the ledger: settled, counted once, and said loudly where it should not be.

| the ledger says | OfferGrid lists it | so |
| --- | --- | --- |
| `unknown` | once | `placed`, with the bytes in which it is listed |
| `not_placed` | once | `placed`, and an alarm: a late placement |
| `placed` under another id, or any of these more than once | | each further one is a duplicate: an alarm |
| `rejected` | at all | stays; an alarm: a late placement |
| `queued`, `in_flight` | | its owner will say |

Each alarm is noted in the ledger before it is counted, so that it is counted once, whoever looks and however often.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from gateway.clock import Clock
from gateway.core.listing import ListedOrder
from gateway.errors import LedgerStale, UpstreamOrderTaken
from gateway.ledger.interface import Found, OrderState, Stray, UnknownOrder
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics

Listed = Mapping[str, Sequence[ListedOrder]]


class Settles(Protocol):
    """The part of the ledger that is needed here. All raise LedgerError."""

    async def settle_found(self, order: UnknownOrder, found: Found) -> None: ...
    async def settle_late(self, order: OrderState, found: Found) -> None: ...
    async def settle_absent(self, order: UnknownOrder, *, settled_ms: int, watch_ms: int) -> None: ...
    async def note_stray(self, stray: Stray) -> bool: ...


class Tally(msgspec.Struct, kw_only=True):
    """What became of orders, counted."""

    found: int = 0
    absent: int = 0
    late: int = 0
    duplicates: int = 0

    def add(self, other: "Tally") -> None:
        self.found += other.found
        self.absent += other.absent
        self.late += other.late
        self.duplicates += other.duplicates


class Findings:
    """Writes down what looks showed. `watch_s`: how long an order that was settled by absence is looked out for."""

    def __init__(self, *, ledger: Settles, clock: Clock, metrics: Metrics, log: Log, watch_s: float) -> None:
        self._watch_ms = int(watch_s * 1000)
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._log = log

    async def unknown(self, orders: Sequence[UnknownOrder], listed: Listed, tally: Tally) -> None:
        """Settles those of these orders of one team that are listed."""
        for order in orders:
            entries = listed.get(order.order_id, ())
            if not entries:
                continue
            about = {
                "order_id": order.order_id,
                "team": order.team,
                "upstream_order_id": entries[0].upstream_order_id,
            }
            try:
                await self._ledger.settle_found(order, self._found(entries[0]))
            except UpstreamOrderTaken:
                self._log.error("reconcile", reason="another order has this upstream order id", **about)
                continue
            except LedgerStale:  # somebody else settled it meanwhile
                continue
            tally.found += 1
            self._log.info("reconciled", outcome="placed", **about)
            self._metrics.found(after_timeout=order.http_status == 504)
            await self._duplicates(order.team_id, order.team, order.order_id, entries[1:], tally)

    async def others(self, team: str, states: Sequence[OrderState], listed: Listed, tally: Tally) -> None:
        """Orders that are not unknown, as they stood before or after they were listed."""
        for state in states:
            entries = listed.get(state.order_id, ())
            if not entries:
                continue
            match state.outcome:
                case "placed":
                    strange = [entry for entry in entries if entry.upstream_order_id != state.upstream_order_id]
                    await self._duplicates(state.team_id, team, state.order_id, strange, tally)
                case "not_placed":
                    await self._late(team, state, entries, tally)
                case "rejected":
                    for entry in entries:
                        if await self._note("late", state.team_id, state.order_id, entry):
                            self._alarm_late(team, state, entry, tally)
                case "queued" | "in_flight" | "unknown":
                    continue

    async def absent(self, orders: Sequence[UnknownOrder], absent: Sequence[str], tally: Tally) -> None:
        """Settles orders whose absence is proven."""
        proven = frozenset(absent)
        for order in orders:
            if order.order_id not in proven:
                continue
            try:
                await self._ledger.settle_absent(order, settled_ms=self._clock.wall_ms(), watch_ms=self._watch_ms)
            except LedgerStale:
                continue
            tally.absent += 1
            self._log.info("reconciled", outcome="not_placed", order_id=order.order_id, team=order.team)

    async def _late(self, team: str, state: OrderState, entries: Sequence[ListedOrder], tally: Tally) -> None:
        try:
            await self._ledger.settle_late(state, self._found(entries[0]))
        except UpstreamOrderTaken:
            self._log.error(
                "reconcile",
                reason="another order has this upstream order id",
                order_id=state.order_id,
                team=team,
                upstream_order_id=entries[0].upstream_order_id,
            )
            return
        except LedgerStale:  # it is being tried again: the next look will see what came of it
            return
        self._alarm_late(team, state, entries[0], tally)
        await self._duplicates(state.team_id, team, state.order_id, entries[1:], tally)

    def _alarm_late(self, team: str, state: OrderState, entry: ListedOrder, tally: Tally) -> None:
        tally.late += 1
        self._metrics.late_placement()
        self._metrics.found(after_timeout=state.http_status == 504)
        self._log.error(
            "late_placement",
            order_id=state.order_id,
            team=team,
            upstream_order_id=entry.upstream_order_id,
            outcome=state.outcome,
        )

    async def _duplicates(
        self, team_id: int, team: str, order_id: str, entries: Sequence[ListedOrder], tally: Tally
    ) -> None:
        for entry in entries:
            if await self._note("duplicate", team_id, order_id, entry):
                tally.duplicates += 1
                self._metrics.duplicates(1)
                self._log.error(
                    "duplicate", order_id=order_id, team=team, upstream_order_id=entry.upstream_order_id
                )

    async def _note(self, kind: str, team_id: int, order_id: str, entry: ListedOrder) -> bool:
        return await self._ledger.note_stray(
            Stray(
                team_id=team_id,
                upstream_order_id=entry.upstream_order_id,
                order_id=order_id,
                kind="late" if kind == "late" else "duplicate",
                seen_ms=self._clock.wall_ms(),
            )
        )

    def _found(self, entry: ListedOrder) -> Found:
        return Found(
            upstream_order_id=entry.upstream_order_id,
            upstream_status=entry.status,
            text=entry.text,
            settled_ms=self._clock.wall_ms(),
        )
