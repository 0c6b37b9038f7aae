"""Finding out about `unknown` orders by looking at OfferGrid's listing, never by sending.

Only what is found is believed: an order that stands in the listing with this gateway's order id is `placed`, with the
bytes in which OfferGrid lists it. An order that does not stand there stays `unknown`: a listing can be late, short or
another account's, and a wrong `not placed` would send a second technician.

One listing serves all of a team's unknown orders. Teams are looked at side by side, so that one whose key is refused
or whose listing hangs holds up no other; and at a pace, so that orders keep their part of the key's limit.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Final, Literal, Protocol

from gateway.broker.directory import LentKey
from gateway.broker.vault import Secret
from gateway.clock import Clock
from gateway.core.evidence import Answered, Evidence
from gateway.core.listing import ListedOrder, read_listing
from gateway.errors import LedgerError, LedgerStale, UpstreamOrderTaken
from gateway.flow.intake import Intake
from gateway.flow.ports import LendsKeys
from gateway.ledger.interface import Found, UnknownOrder
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics

LISTING_TIMEOUT_S: Final = 30.0
"""A listing may be large. Nobody waits for it."""

PACE_WINDOW_S: Final = 61.0
"""The minute of the key's limit, and a second for the network's jitter."""

Result = Literal["found", "nothing", "failed", "unreadable", "no_key"]


class Reconciles(Protocol):
    """The part of the ledger that is needed here. Both raise LedgerError."""

    async def unknown(self) -> Sequence[UnknownOrder]: ...
    async def settle_found(self, order: UnknownOrder, found: Found) -> None: ...


class Lists(Protocol):
    """One look at a team's orders. Never raises; doubt is `Sent`."""

    async def list_orders(self, *, key: Secret, deadline: float) -> Evidence: ...


class Reconciler:
    """Looks for unknown orders for as long as `run` runs. Belongs to one event loop.

    `per_minute`: listings of one team in any minute.
    """

    def __init__(
        self,
        *,
        ledger: Reconciles,
        upstream: Lists,
        keys: LendsKeys,
        intake: Intake,
        clock: Clock,
        metrics: Metrics,
        log: Log,
        interval_s: float,
        per_minute: int,
    ) -> None:
        self._ledger = ledger
        self._upstream = upstream
        self._keys = keys
        self._intake = intake
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._interval_s = interval_s
        self._per_minute = max(1, per_minute)
        self._looked: defaultdict[int, deque[float]] = defaultdict(deque)
        self._looking: set[int] = set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as looks:
            while True:
                try:
                    if not self._intake.quarantined:  # then more than the unknown ones is looked for, by a rejoin
                        await self._start_looking(looks)
                except LedgerError as fault:
                    self._log.warning("ledger", where="reconcile", error=str(fault))
                await asyncio.sleep(self._interval_s)

    async def _start_looking(self, looks: asyncio.TaskGroup) -> None:
        """One look for each team that has unknown orders, is not being looked at, and has calls to spare."""
        by_team: defaultdict[int, list[UnknownOrder]] = defaultdict(list)
        unknown = await self._ledger.unknown()
        self._metrics.oldest_unknown(unknown[0].created_ms if unknown else None)
        for order in unknown:
            by_team[order.team_id].append(order)
        for team_id, orders in by_team.items():
            if team_id not in self._looking and self._may_look(team_id):
                self._looking.add(team_id)
                looks.create_task(self._look_safely(orders))

    def _may_look(self, team_id: int) -> bool:
        now, looked = self._clock.monotonic(), self._looked[team_id]
        while looked and looked[0] <= now - PACE_WINDOW_S:
            looked.popleft()
        if len(looked) >= self._per_minute:
            return False
        looked.append(now)
        return True

    async def _look_safely(self, orders: Sequence[UnknownOrder]) -> None:
        team_id = orders[0].team_id
        try:
            self._metrics.reconciled(await self.look(orders))
        except LedgerError as fault:
            self._log.warning("ledger", where="reconcile", error=str(fault))
        except Exception:  # noqa: BLE001 - a defect met with one team must not end the loop for all
            self._log.exception("defect", where="reconcile")
        finally:
            self._looking.discard(team_id)

    async def look(self, orders: Sequence[UnknownOrder]) -> Result:
        """One listing for these orders of one team; what it shows is settled."""
        key = self._keys.key_of(orders[0].team_id)
        if not isinstance(key, LentKey):
            return "no_key"
        began = self._clock.monotonic()
        evidence = await self._upstream.list_orders(key=key.secret, deadline=began + LISTING_TIMEOUT_S)
        self._metrics.attempt(orders[0].team, "list", evidence, self._clock.monotonic() - began)
        if not isinstance(evidence, Answered) or not 200 <= evidence.status < 300:
            return "failed"
        # Beside the event loop: a long listing takes its time to read, which no order should wait for.
        listing = await asyncio.to_thread(read_listing, evidence.body, evidence.link)
        if listing is None:
            return "unreadable"
        listed: defaultdict[str, list[ListedOrder]] = defaultdict(list)
        for entry in listing.orders:
            if entry.gateway_order_id is not None:
                listed[entry.gateway_order_id].append(entry)
        settled = [
            await self._settle(order, listed[order.order_id]) for order in orders if order.order_id in listed
        ]
        return "found" if any(settled) else "nothing"

    async def _settle(self, order: UnknownOrder, entries: Sequence[ListedOrder]) -> bool:
        """Whether the order is settled by what the listing shows of it."""
        first = entries[0]
        found = Found(
            upstream_order_id=first.upstream_order_id,
            upstream_status=first.status,
            text=first.text,
            settled_ms=self._clock.wall_ms(),
        )
        about = {"order_id": order.order_id, "team": order.team, "upstream_order_id": first.upstream_order_id}
        try:
            await self._ledger.settle_found(order, found)
        except UpstreamOrderTaken:
            self._log.error("reconcile", reason="another order has this upstream order id", **about)
            return False
        except LedgerStale:  # somebody else settled it meanwhile
            return False
        self._log.info("reconciled", outcome="placed", **about)
        self._metrics.found(after_timeout=order.http_status == 504)
        if len(entries) > 1:
            self._metrics.duplicates(len(entries) - 1)
            self._log.error("duplicate", count=len(entries), **about)
        return True
