"""One look at a team's orders: the listing, page by page, and what it shows.

It asks and reads; nothing is settled here. Reading happens beside the event loop: a long listing takes its time, which
no order should wait for.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

from gateway.broker.directory import KeyUnreadable, LentKey
from gateway.broker.vault import Secret
from gateway.clock import Clock
from gateway.core.absence import Mode, Sight, Witnesses, sight_of
from gateway.core.cadence import Cadence
from gateway.core.evidence import Answered, Evidence, NotSent
from gateway.core.listing import ListedOrder, Page, joined, read_page
from gateway.telemetry.metrics import Metrics

LISTING_TIMEOUT_S: Final = 30.0
"""For all pages. A listing may be large, and nobody waits for it."""

MAX_PAGES: Final = 200
MAX_FOREIGN: Final = 10_000
"""Orders of other ledgers that one look tells apart."""

Trouble = Literal["failed", "unreadable", "no_key"]


class Lists(Protocol):
    """One page of a team's orders, by default the first. Never raises; doubt is `Sent`."""

    async def list_orders(
        self, *, key: Secret, deadline: float, page: str | None = None, spent_bytes: int = 0
    ) -> Evidence: ...


class LendsKey(Protocol):
    def key_of(self, team_id: int) -> LentKey | KeyUnreadable | None: ...


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a look is for. `order_ids`: the orders to look out for; None: all that are listed."""

    team_id: int
    team: str
    witnesses: Witnesses
    order_ids: frozenset[str] | None


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What a look showed. `listed`: by gateway order id, each upstream order once, in the listing's order.

    `trouble`: why it is no listing, or not all of one; what is listed is listed all the same. `whole`: nothing says
    that there is more. `pages`: calls that a look takes. `foreign`: upstream ids of orders that another ledger placed.
    """

    pages: int
    trouble: Trouble | None = None
    whole: bool = False
    listed: Mapping[str, Sequence[ListedOrder]] = msgspec.field(default_factory=dict)
    foreign: frozenset[str] = frozenset()
    sight: Sight | None = None


class Looker:
    """Belongs to one event loop. `ledger_id` is what this gateway's orders carry as `gatewayLedger`."""

    def __init__(
        self,
        *,
        upstream: Lists,
        keys: LendsKey,
        clock: Clock,
        metrics: Metrics,
        ledger_id: str,
        mode: Mode,
    ) -> None:
        self._upstream = upstream
        self._keys = keys
        self._clock = clock
        self._metrics = metrics
        self._ledger_id = ledger_id
        self._mode = mode

    async def look(self, wanted: Wanted, cadence: Cadence) -> Shown:
        """Each page is a call of `cadence`'s; where it has none left, what was read is all that is shown."""
        key = self._keys.key_of(wanted.team_id)
        if not isinstance(key, LentKey):
            return Shown(pages=0, trouble="no_key")
        pages: list[Page] = []
        trouble: Trouble | None = None
        asked: set[str | None] = set()
        url: str | None = None
        spent_bytes = 0
        deadline = self._clock.monotonic() + LISTING_TIMEOUT_S
        while url not in asked and len(asked) < MAX_PAGES and cadence.may_call(self._clock.monotonic()):
            asked.add(url)
            cadence.called(self._clock.monotonic())
            evidence = await self._ask(wanted.team, key.secret, deadline, url, spent_bytes)
            if not isinstance(evidence, Answered) or not 200 <= evidence.status < 300:
                trouble = "failed"
                break
            page = await asyncio.to_thread(read_page, evidence.body, evidence.link)
            if page is None:
                trouble = "unreadable"
                break
            pages.append(page)
            spent_bytes += len(evidence.body)
            if page.next is None:
                break
            url = page.next
        if not pages:
            return Shown(pages=len(asked), trouble=trouble or "failed")
        calls = max(len(asked), len(pages) + (pages[-1].next is not None))
        return await asyncio.to_thread(self._shown, pages, wanted, trouble, calls)

    async def _ask(self, team: str, key: Secret, deadline: float, url: str | None, spent_bytes: int) -> Evidence:
        began = self._clock.monotonic()
        evidence = await self._upstream.list_orders(key=key, deadline=deadline, page=url, spent_bytes=spent_bytes)
        if not (isinstance(evidence, NotSent) and evidence.reason == "defect"):  # it was no call
            self._metrics.attempt(team, "list", evidence, self._clock.monotonic() - began)
        return evidence

    def _shown(self, pages: list[Page], wanted: Wanted, trouble: Trouble | None, calls: int) -> Shown:
        """Takes as long as the listing is."""
        listing = joined(pages)
        listed: defaultdict[str, dict[str, ListedOrder]] = defaultdict(dict)
        foreign: set[str] = set()
        for order in listing.orders:
            order_id = order.gateway_order_id
            if order.gateway_ledger not in (None, self._ledger_id) and len(foreign) < MAX_FOREIGN:
                foreign.add(order.upstream_order_id)
            if order_id is not None and (wanted.order_ids is None or order_id in wanted.order_ids):
                listed[order_id].setdefault(order.upstream_order_id, order)
        sight = sight_of(listing, witnesses=wanted.witnesses, ledger_id=self._ledger_id, mode=self._mode)
        return Shown(
            pages=calls,
            trouble=trouble,
            whole=listing.whole and trouble is None,
            listed={order_id: tuple(found.values()) for order_id, found in listed.items()},
            foreign=frozenset(foreign),
            sight=None if trouble else sight,
        )
