"""One look at a team's orders: the listing, page by page, and what it shows.

It asks and reads; nothing is settled here. Reading happens beside the event loop, in threads of its own: a long listing
takes its time, which no order should wait for. Each page waits for a call of the team's pace, so that a listing of many
pages takes minutes, and is whole in the end.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal, Protocol, TypeVar

import msgspec
from msgspec import structs

from gateway.broker.directory import KeyUnreadable, LentKey
from gateway.broker.vault import Secret
from gateway.clock import Clock
from gateway.core.absence import Mode, Sight, Witnesses, sight_of
from gateway.core.cadence import Cadence
from gateway.core.evidence import Answered, Evidence, NotSent
from gateway.core.listing import ListedOrder, Page, joined, read_page
from gateway.core.resend import asked_pause_s
from gateway.flow.ports import CountsReads
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics

PAGE_TIMEOUT_S: Final = 30.0
"""For one page. It may be large, and nobody waits for it."""

LISTING_WITHIN_S: Final = 3_600.0
"""For all pages: what was read an hour ago says little of what is there now."""

MAX_PAGES: Final = 200
SLOW_LISTING_S: Final = 60.0
"""What takes longer is said: orders settle as late as that."""

PAGES_AT_ONCE: Final = 8
"""Of all teams: so many may be on their way or being read, which bounds the memory that they take."""

READERS: Final = 2
"""Threads that read pages. While one is at a long page another team's is read."""

MAX_FOREIGN: Final = 10_000
"""Orders of other ledgers that one look tells apart."""

Trouble = Literal["failed", "unreadable", "no_key"]
T = TypeVar("T")


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
    `began`: the monotonic instant before the first call; None where there was none.
    """

    pages: int
    trouble: Trouble | None = None
    whole: bool = False
    listed: Mapping[str, Sequence[ListedOrder]] = msgspec.field(default_factory=dict)
    foreign: frozenset[str] = frozenset()
    sight: Sight | None = None
    began: float | None = None


class _Reading:
    """A look under way: which pages were asked for, and what was read."""

    def __init__(self) -> None:
        self.asked: set[str | None] = set()
        self.pages: list[Page] = []
        self.spent_bytes = 0
        self.began: float | None = None


class Looker:
    """Belongs to one event loop. `ledger_id` is what this gateway's orders carry as `gatewayLedger`."""

    def __init__(
        self,
        *,
        upstream: Lists,
        keys: LendsKey,
        reads: CountsReads,
        clock: Clock,
        metrics: Metrics,
        ledger_id: str,
        mode: Mode,
        log: Log,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._upstream = upstream
        self._keys = keys
        self._reads = reads
        self._clock = clock
        self._metrics = metrics
        self._ledger_id = ledger_id
        self._mode = mode
        self._log = log
        self._sleep = sleep
        self._at_once = asyncio.Semaphore(PAGES_AT_ONCE)
        self._readers = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="listing-reader")

    async def look(self, wanted: Wanted, cadence: Cadence) -> Shown:
        """Each page is a call of `cadence`'s, and waits for it. Where the listing does not end within its limits, what
        was read is all that is shown.
        """
        key = self._keys.key_of(wanted.team_id)
        if not isinstance(key, LentKey):
            return Shown(pages=0, trouble="no_key")
        reading = _Reading()
        started = self._clock.monotonic()
        trouble = await self._read(reading, wanted, key, cadence)
        seconds = round(self._clock.monotonic() - started, 1)
        if seconds > SLOW_LISTING_S:
            self._log.warning("slow_listing", team=wanted.team, count=len(reading.asked), seconds=seconds)
        pages, calls = reading.pages, len(reading.asked)
        if not pages:
            return Shown(pages=calls, trouble=trouble or "failed", began=reading.began)
        calls = max(calls, len(pages) + (pages[-1].next is not None))
        shown = await self._beside(lambda: self._shown(pages, wanted, trouble, calls))
        return structs.replace(shown, began=reading.began)

    async def _read(self, reading: _Reading, wanted: Wanted, key: LentKey, cadence: Cadence) -> Trouble | None:
        """Page after page; why it ended before the last one, where that was no limit."""
        until = self._clock.monotonic() + LISTING_WITHIN_S
        url: str | None = None
        while url not in reading.asked:
            if len(reading.asked) >= MAX_PAGES or not await self._has_call(cadence, until):
                limits = f"a listing may have {MAX_PAGES} pages and take {LISTING_WITHIN_S:.0f} s"
                self._log.error("listing_too_long", team=wanted.team, count=len(reading.asked), error=limits)
                return None
            lent = self._keys.key_of(wanted.team_id)
            if not isinstance(lent, LentKey):
                return "no_key"
            if lent.key_id != key.key_id:  # another key's pages may be another account's
                return "failed"
            if not await self._counted(lent, until):
                return "failed"
            page = await self._page(reading, wanted.team, lent, cadence, url)
            if not isinstance(page, Page):
                return page
            reading.pages.append(page)
            if page.next is None:
                return None
            url = page.next
        return None

    async def _has_call(self, cadence: Cadence, until: float) -> bool:
        """Waits for one, but not beyond `until`."""
        while (wait_s := cadence.call_in(now := self._clock.monotonic())) > 0:
            if now + wait_s > until:
                return False
            await self._sleep(wait_s)
        return True

    async def _counted(self, key: LentKey, until: float) -> bool:
        """Whether the call is counted against the key's reserve; waits for it, but not beyond `until`."""
        while key.terms is not None:
            short = await self._reads.take_read(key.terms)
            if short is None:
                break
            wait_s = short.wait_ms / 1000
            if self._clock.monotonic() + wait_s > until:
                return False
            await self._sleep(wait_s)
        return True

    async def _page(
        self, reading: _Reading, team: str, key: LentKey, cadence: Cadence, url: str | None
    ) -> Page | Trouble:
        async with self._at_once:
            now = self._clock.monotonic()
            reading.began = now if reading.began is None else reading.began
            reading.asked.add(url)
            cadence.called(now)
            evidence = await self._ask(team, key.secret, now + PAGE_TIMEOUT_S, url, reading.spent_bytes)
            pause_s = asked_pause_s(evidence, wall_ms=self._clock.wall_ms())
            if pause_s is not None:
                await self._reads.pause_key(key.key_id, pause_s)
            if not isinstance(evidence, Answered) or not 200 <= evidence.status < 300:
                return "failed"
            reading.spent_bytes += len(evidence.body)
            page = await self._beside(lambda: read_page(evidence.body, evidence.link))
            return "unreadable" if page is None else page

    async def _beside(self, read: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, read)

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
