"""How many calls an upstream key carries, exactly: a sliding log of its calls, and each tenant's part of what is left.

Every call that is sent with a key is counted before it is sent, and counts for `MINUTE_MS` and for `HOUR_MS`. OfferGrid
must never see more than the limit in any 60 s of its own clock. A call arrives somewhere between its being counted and
its attempt's end, so a call whose attempt takes longer than `SETTLES_IN_MS` is counted anew at its end. Then:

    the n-th call is counted at t only where fewer than `limit` others are counted for the minute before t;
    whatever of them arrives after t - 60 s ended after it, or was counted less than `SETTLES_IN_MS` before, so it is
    among those; hence no 60 s hold more than `limit` arrivals, however slow the network was.

Of the limit a reserve is kept from orders, for reads. The rest, the *share*, is the team's tenants'. A fraction of it
is guaranteed to them in parts. A part that its tenant has not used may be spent by nobody else for as long as the
tenant has asked for something in the last `WANTS_FOR_MS`; everything else is first come, first served.

All is in ticks: milliseconds of the ledger's time, which never steps.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from gateway.core.budget_terms import Division, Terms, WindowName

MINUTE_MS: Final = 61_000
HOUR_MS: Final = 3_610_000
"""A little more than the windows of OfferGrid, for the network's jitter."""

SETTLES_IN_MS: Final = 900
"""An attempt that ends within this of being counted arrived in time: what is left of the extra second is for jitter."""

WANTS_FOR_MS: Final = 300_000
"""A tenant that has asked for nothing for so long wants nothing, and its part is everybody's."""

READS: Final = 0
"""Instead of a tenant's id: the gateway's own calls, which only read."""

Shortness = Literal["minute", "hour", "part", "paused"]
"""Why a call has to wait: the key's own limit, the tenant's part of it, or OfferGrid said so (429)."""


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of one window. `left`: calls that the asker could make now; `left_in_all`: anybody, reads included.
    `next_ms`: until something comes back to it, 0 where all of it is there.
    """

    window: WindowName
    limit: int
    left: int
    left_in_all: int
    next_ms: int


class Call(NamedTuple):
    """One call as it was counted: `who` is a tenant's id, or `READS`."""

    key_id: str
    number: int
    tick: int
    who: int


class Shortage(msgspec.Struct, frozen=True, kw_only=True):
    """The call may not be made now, but in `wait_ms` if nobody else makes one meanwhile."""

    wait_ms: int
    why: Shortness


class _Window:
    """The calls of the last `length_ms`, by number, with their ticks in order."""

    __slots__ = ("_calls", "_length_ms", "orders", "reads", "used")

    def __init__(self, length_ms: int) -> None:
        self._length_ms = length_ms
        self._calls: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self.used: dict[int, int] = {}
        self.orders = 0
        self.reads = 0

    def add(self, number: int, tick: int, who: int) -> None:
        self._calls[number] = (tick, who)
        self._count(who, 1)

    def remove(self, number: int) -> None:
        call = self._calls.pop(number, None)
        if call is not None:
            self._count(call[1], -1)

    def advance(self, now: int) -> int:
        """Forgets what counts no more. The highest number that was forgotten, or 0."""
        last = 0
        while self._calls:
            number, (tick, who) = next(iter(self._calls.items()))
            if tick > now - self._length_ms:
                break
            del self._calls[number]
            self._count(who, -1)
            last = number
        return last

    def next_ms(self, now: int) -> int:
        for tick, _who in self._calls.values():
            return max(0, tick + self._length_ms - now)
        return 0

    def fits(self, who: int, division: Division, wanting: Iterable[int]) -> bool:
        """Whether `left` is 1 at least; at once where even all parts together are still there."""
        if who != READS and self._of_share(division) + division.guaranteed < division.share:
            return self.orders + self.reads < division.limit
        return self.left(who, division, wanting) > 0

    def left(self, who: int, division: Division, wanting: Iterable[int]) -> int:
        """How many calls `who` could make now. `wanting`: the tenants that may still want their parts."""
        free = division.limit - self.orders - self.reads
        if who == READS:
            return max(0, min(free, _for_reads(division) - self.reads))
        free = min(free, division.share - self._of_share(division))
        mine = division.parts.get(who, 0) - self.used.get(who, 0)
        unmet = 0
        for tenant in wanting:
            if tenant != who:
                unmet += max(0, division.parts.get(tenant, 0) - self.used.get(tenant, 0))
        return max(0, min(free, max(mine, free - unmet)))

    def free_at(self, who: int, division: Division, wanting: Sequence[int]) -> int | None:
        """The tick at which `left` comes to 1 by itself; None where it never does while the others want their parts."""
        orders, reads, used = self.orders, self.reads, dict(self.used)
        parts = division.parts
        mine = parts.get(who, 0)
        unmet = sum(max(0, parts.get(tenant, 0) - used.get(tenant, 0)) for tenant in wanting if tenant != who)
        counted = frozenset(wanting)
        for tick, gone in self._calls.values():
            used[gone] = used.get(gone, 0) - 1
            if gone == READS:
                reads -= 1
            else:
                orders -= 1
                unmet += gone != who and gone in counted and used[gone] < parts.get(gone, 0)
            if orders + reads >= division.limit:
                continue
            if who == READS:
                fits = reads < _for_reads(division)
            else:
                taken = orders + max(0, reads - division.reserve)
                fits = taken < division.share and (used.get(who, 0) < mine or taken + unmet < division.share)
            if fits:
                return tick + self._length_ms
        return None

    def _of_share(self, division: Division) -> int:
        """What is taken of it: by orders, and by reads where there is no reserve for them."""
        return self.orders + max(0, self.reads - division.reserve)

    def _count(self, who: int, by: int) -> None:
        if who == READS:
            self.reads += by
        else:
            self.orders += by
        count = self.used.get(who, 0) + by
        if count:
            self.used[who] = count
        else:
            self.used.pop(who, None)


def _for_reads(division: Division) -> int:
    """Without a reserve reads take what comes, as orders do: unknown orders must be found all the same."""
    return division.reserve or division.limit


class Book:
    """One key's calls of the last hour. Not safe for threads. Ticks given to it never go back by more than they are
    cut to: a later call counts for at least as long as an earlier one.
    """

    def __init__(self) -> None:
        self._windows: dict[WindowName, _Window] = {"minute": _Window(MINUTE_MS), "hour": _Window(HOUR_MS)}
        self._asked: dict[int, int] = {}
        self._paused_until = 0
        self._latest = 0

    def add(self, number: int, tick: int, who: int, *, instead_of: int | None = None) -> None:
        """A call that was counted; `instead_of` an earlier count of the same one."""
        self._latest = max(self._latest, tick)
        for window in self._windows.values():
            if instead_of is not None:
                window.remove(instead_of)
            window.add(number, self._latest, who)
        if who != READS:
            self._asked[who] = max(self._asked.get(who, 0), tick)

    def pause(self, until: int) -> None:
        """OfferGrid asked to be left alone with this key: nobody calls before."""
        self._paused_until = max(self._paused_until, until)

    def forget(self, now: int) -> int:
        """Drops what counts no more. The highest number of a call that is needed no more, or 0."""
        self._windows["minute"].advance(now)
        return self._windows["hour"].advance(now)

    def ask(self, who: int, now: int, terms: Terms, *, only_part: bool = False) -> Shortage | None:
        """None where the call may be made now; it is counted by `add`.

        `only_part`: others wait already, so only what is guaranteed to this tenant is given to it.
        """
        self.forget(now)
        if who != READS:
            self._asked[who] = now
        if now < self._paused_until:
            return Shortage(wait_ms=self._paused_until - now, why="paused")
        wanting = self._wanting(now)
        found: Shortage | None = None
        for division in terms.divisions:
            window = self._windows[division.window]
            if window.fits(who, division, wanting):
                continue
            free_at = window.free_at(who, division, wanting)
            wait_ms = WANTS_FOR_MS if free_at is None else max(free_at - now, 1)
            if found is None or wait_ms > found.wait_ms:
                short_of_all = window.orders >= division.share or who == READS
                found = Shortage(wait_ms=wait_ms, why=division.window if short_of_all else "part")
        if found is None and only_part and not self._within_part(who, terms):
            return Shortage(wait_ms=0, why="part")
        return found

    def allowances(self, who: int, now: int, terms: Terms) -> list[Allowance]:
        """What is left of each window that has a limit."""
        self.forget(now)
        wanting = self._wanting(now)
        paused_ms = max(0, self._paused_until - now)
        found = []
        for division in terms.divisions:
            window = self._windows[division.window]
            found.append(
                Allowance(
                    window=division.window,
                    limit=division.limit,
                    left=0 if paused_ms else window.left(who, division, wanting),
                    left_in_all=max(0, division.limit - window.orders - window.reads),
                    next_ms=paused_ms or window.next_ms(now),
                )
            )
        return found

    def _within_part(self, who: int, terms: Terms) -> bool:
        return all(
            self._windows[division.window].used.get(who, 0) < division.parts.get(who, 0)
            for division in terms.divisions
        )

    def _wanting(self, now: int) -> list[int]:
        return [tenant for tenant, asked in self._asked.items() if asked > now - WANTS_FOR_MS]
