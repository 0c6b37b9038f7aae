"""Reading what OfferGrid has, for a ledger that does not know it any more.

A restored ledger may place nothing before it knows again what was placed. Each team's listing is read twice. The first
look finds out at once what would make the second one fail. The second one counts: it begins when everything has arrived
that was on its way when the old ledger ended, which OfferGrid takes `settle_after_s` for at most.

One team whose listing is in doubt keeps the whole ledger in quarantine: nothing here decides on half of the truth.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from gateway.broker.directory import KeyUnreadable, LentKey
from gateway.clock import Clock
from gateway.core.evidence import Answered
from gateway.core.listing import Listing, Page, joined, read_page
from gateway.core.reentry import Reentry, Unreadable, foreign_orders, lacks, own_orders
from gateway.errors import OperatorError
from gateway.flow.counted import CountedLists, Lists
from gateway.flow.ports import CountsReads

PAGE_TIMEOUT_S: Final = 30.0
"""For one page. It may be large, and nobody waits for an answer meanwhile."""

MAX_PAGES: Final = 50
"""Of one listing. Each page is a call of the reserve, and waits for it."""

SAY_EVERY_S: Final = 5.0


class TeamToRead(msgspec.Struct, frozen=True, kw_only=True):
    """A team with its active key, or another usable one.

    `witnesses`: order id and upstream order id of what a complete listing must hold.
    """

    team_id: int
    name: str
    key: LentKey | KeyUnreadable | None
    witnesses: tuple[tuple[str, str], ...]


class TeamOrders(msgspec.Struct, frozen=True, kw_only=True):
    """What a team's complete listing holds: of this ledger, the oldest first; how many in all, how many of others."""

    team_id: int
    name: str
    own: tuple[Reentry, ...]
    listed: int
    foreign: int


class ListingsInDoubt(OperatorError):
    """A line a team: why its listing proves nothing. The quarantine stays."""


class _Doubt(Exception):
    """Why one team's listing proves nothing."""


class Looks:
    """Reads listings for a rejoin. `wait_ms` says how long what was on its way may still take; `say` tells people."""

    def __init__(
        self,
        *,
        upstream: Lists,
        reads: CountsReads,
        ledger_id: str,
        clock: Clock,
        wait_ms: Callable[[], int],
        say: Callable[[str], None],
    ) -> None:
        self._upstream = upstream
        self._reads = reads
        self._ledger_id = ledger_id
        self._clock = clock
        self._wait_ms = wait_ms
        self._say = say

    async def read(self, teams: Sequence[TeamToRead]) -> list[TeamOrders]:
        """Every team's orders, or ListingsInDoubt for all teams that are in doubt."""
        before = await self._look_at_all(teams)
        while (left_ms := self._wait_ms()) > 0:
            self._say(f"waiting {-(-left_ms // 1000)} s for orders that were on their way")
            await asyncio.sleep(min(left_ms / 1000, SAY_EVERY_S))
        after = await self._look_at_all(teams)
        gone = [_gone(first, second) for first, second in zip(before, after, strict=True)]
        if any(gone):
            raise ListingsInDoubt("\n".join(line for line in gone if line))
        return after

    async def _look_at_all(self, teams: Sequence[TeamToRead]) -> list[TeamOrders]:
        self._say(f"reading what OfferGrid has of {len(teams)} team{'' if len(teams) == 1 else 's'}")
        found = await asyncio.gather(*(self._look_safely(team) for team in teams))
        doubts = [one for one in found if isinstance(one, str)]
        if doubts:
            raise ListingsInDoubt("\n".join(doubts))
        return [one for one in found if isinstance(one, TeamOrders)]

    async def _look_safely(self, team: TeamToRead) -> TeamOrders | str:
        try:
            return await self._look(team)
        except _Doubt as doubt:
            return f"team {team.name}: {doubt}"

    async def _look(self, team: TeamToRead) -> TeamOrders:
        listing = await self._listing(team)
        lacking = lacks(listing, team.witnesses)
        if lacking:
            raise _Doubt(
                f"its listing lacks order {lacking[0]}, which the ledger knows as placed ({len(lacking)} such)"
            )
        own = own_orders(listing, self._ledger_id)
        for order in own:
            if isinstance(order, Unreadable):
                raise _Doubt(f"the metadata of its order {order.upstream_order_id} at OfferGrid was changed")
        return TeamOrders(
            team_id=team.team_id,
            name=team.name,
            own=tuple(order for order in own if isinstance(order, Reentry)),
            listed=len(listing.orders),
            foreign=foreign_orders(listing, self._ledger_id),
        )

    async def _listing(self, team: TeamToRead) -> Listing:
        if team.key is None:
            raise _Doubt(
                "has no usable key, so nobody can tell what was placed for it: ordergate key add"
                f" {team.name}, or see ordergate db rejoin --help"
            )
        if isinstance(team.key, KeyUnreadable):
            raise _Doubt(f"the record of {team.key.key_id} cannot be opened: see ordergate db check")
        pages, spent_bytes = [await self._page(team.key, None, 0)], 0
        while (following := pages[-1].page.next) is not None and len(pages) < MAX_PAGES:
            spent_bytes += pages[-1].size
            pages.append(await self._page(team.key, following, spent_bytes))
        listing = joined([one.page for one in pages])
        if not listing.whole:
            raise _Doubt("its listing is, or may be, not all of its orders")
        return listing

    async def _page(self, key: LentKey, page: str | None, spent_bytes: int) -> "_Read":
        deadline = self._clock.monotonic() + PAGE_TIMEOUT_S
        upstream = CountedLists(self._upstream, self._reads, key, self._clock)
        evidence = await upstream.list_orders(key=key.secret, deadline=deadline, page=page, spent_bytes=spent_bytes)
        if not isinstance(evidence, Answered):
            raise _Doubt(f"its listing could not be read: {evidence.reason} {evidence.detail}".rstrip())
        if not 200 <= evidence.status < 300:
            raise _Doubt(f"OfferGrid answers {evidence.status} to {key.key_id}")
        found = read_page(evidence.body, evidence.link)
        if found is None:
            raise _Doubt("what OfferGrid answers is no listing")
        return _Read(page=found, size=len(evidence.body))


class _Read(msgspec.Struct, frozen=True, kw_only=True):
    """A page and how many bytes it was."""

    page: Page
    size: int


def _gone(first: TeamOrders, second: TeamOrders) -> str:
    """What the second look lacks that the first one saw: an order does not go away, so one of the two was not whole."""
    seen = {order.upstream_order_id for order in second.own}
    gone = [order.order_id for order in first.own if order.upstream_order_id not in seen]
    return f"team {first.name}: its listing lacks order {gone[0]}, which it held before" if gone else ""
