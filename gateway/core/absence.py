"""When looking proves that OfferGrid does not have an order: the one conclusion here that may place an order again.

An unknown order is *absent* when two listings in a row agree that it is not there, and each of them

- was begun `settle_after_s` or more after this process first saw the order unknown as it is now, which is after its
  last attempt ended: OfferGrid acts within that time or never;
- was begun `interval_s` or more after the other one;
- is whole, as `core.listing` reads it;
- holds its *witnesses*, metadata intact: every order that the ledger knows as placed for the team and that was claimed
  from an hour before this one on, and the last one before that. A listing that is late, short, filtered or another
  account's lacks one of them. Where the ledger knows of none, only an empty listing says anything;
- holds every order that the earlier one held.

Anything else in between, and the proof begins anew. What no listing can show is that it leaves out this one order and
no other, twice: so an order that was settled by absence stays watched.

Nothing here knows the time: instants are monotonic seconds of the caller's, ticks milliseconds of the ledger's time.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, Protocol

import msgspec

from gateway.core.listing import Listing

Mode = Literal["witnessed", "trusted", "never"]

WITNESS_BEFORE_MS: Final = 3_600_000
"""How long before an order's claim its witnesses begin."""

EVERY: Final = 0
"""Of `Sight.covers_from`: there is no tick before the ledger's first."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a proof takes. `trusted` does without witnesses, `never` without proofs."""

    mode: Mode
    settle_after_s: float
    interval_s: float


class Witness(msgspec.Struct, frozen=True, kw_only=True):
    """An order that the ledger knows as placed, and that was claimed at `tick`."""

    order_id: str
    upstream_order_id: str
    tick: int


class Witnesses(msgspec.Struct, frozen=True, kw_only=True):
    """A team's witnesses, the oldest first, read before the listing was asked for. `cut`: there are older ones."""

    known: Sequence[Witness] = ()
    cut: bool = False


class Unsure(Protocol):
    """An unknown order. `version` changes with everything that happens to it."""

    @property
    def order_id(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def created_tick(self) -> int: ...


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What a listing says about what is not in it.

    It is complete for orders that were claimed at the tick `covers_from` or later; None: for none.
    """

    covers_from: int | None
    upstream_ids: frozenset[str]
    order_ids: frozenset[str]


def sight_of(listing: Listing, *, witnesses: Witnesses, ledger_id: str, mode: Mode) -> Sight:
    """A listing as it bears on absence. Takes its time with a long one."""
    ours = {
        (order.upstream_order_id, order.gateway_order_id)
        for order in listing.orders
        if order.gateway_ledger == ledger_id
    }
    return Sight(
        covers_from=_covers_from(listing, ours, witnesses, mode),
        upstream_ids=frozenset(order.upstream_order_id for order in listing.orders),
        order_ids=frozenset(
            order.gateway_order_id for order in listing.orders if order.gateway_order_id is not None
        ),
    )


def _covers_from(
    listing: Listing, ours: set[tuple[str, str | None]], witnesses: Witnesses, mode: Mode
) -> int | None:
    """By the newest witness that is missing: an order is covered where it is older than all that this order needs.

    What an order needs ends with the last witness before its hour. So the one behind the missing one must be before it.
    """
    if not listing.whole or mode == "never":
        return None
    if mode == "trusted":
        return EVERY
    known = witnesses.known
    if not known:
        return None if listing.orders or witnesses.cut else EVERY
    missing = next(
        (at for at in reversed(range(len(known))) if (known[at].upstream_order_id, known[at].order_id) not in ours),
        -1,
    )
    if missing < 0 and not witnesses.cut:
        return EVERY
    behind = missing + 1
    return known[behind].tick + WITNESS_BEFORE_MS + 1 if behind < len(known) else None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one look proved: these orders are absent. `complete`: it was good enough for every order looked for."""

    absent: tuple[str, ...]
    complete: bool


class _Proof(msgspec.Struct):
    """One order's way to a proof: its version, when it was first seen so, and when the first good look began.

    `listed`: a look has shown the order, whatever became of that. It is never absent then.
    """

    version: int
    seen: float
    first: float | None = None
    listed: bool = False


class Absence:
    """What one process knows of one team's unknown orders and of the looks for them, made one after the other."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._proofs: dict[str, _Proof] = {}
        self._held: frozenset[str] = frozenset()

    def see(self, orders: Iterable[Unsure], now: float) -> None:
        """These, and no others, are unknown now. An order's time begins when it is first seen at its version."""
        seen: dict[str, _Proof] = {}
        for order in orders:
            proof = self._proofs.get(order.order_id)
            if proof is None or proof.version != order.version:
                proof = _Proof(version=order.version, seen=now)
            seen[order.order_id] = proof
        self._proofs = seen
        if not self._has_begun():  # nothing for which the next look would have to agree with the last one
            self._held = frozenset()

    @property
    def first_seen(self) -> float | None:
        """When the order that waits for longest was first seen; None where none waits."""
        return min((proof.seen for proof in self._proofs.values()), default=None)

    @property
    def last_ripe(self) -> float | None:
        """From when on a look can begin a proof for every order that is unknown now; None where none ever can."""
        last = max((proof.seen for proof in self._proofs.values()), default=None)
        return None if last is None or self._terms.mode == "never" else last + self._terms.settle_after_s

    def looked(self, began: float, sight: Sight | None, orders: Iterable[Unsure]) -> Finding:
        """One look ended, for `orders`, which were unknown before it began. `sight` None: it showed no listing."""
        covers_from = None if sight is None else sight.covers_from
        covered = {
            order.order_id: covers_from is not None and order.created_tick >= covers_from for order in orders
        }
        agrees = sight is not None and self._held <= sight.upstream_ids
        absent = []
        for order_id, proof in self._proofs.items():
            proof.listed = proof.listed or (sight is not None and order_id in sight.order_ids)
            if not agrees:
                proof.first = None
            if self._advance(proof, began, covered=covered.get(order_id, False)):
                absent.append(order_id)
        self._held = sight.upstream_ids if sight is not None and self._has_begun() else frozenset()
        return Finding(absent=tuple(absent), complete=all(covered.values()))

    def _has_begun(self) -> bool:
        return any(proof.first is not None for proof in self._proofs.values())

    def _advance(self, proof: _Proof, began: float, *, covered: bool) -> bool:
        """Whether this look ends the order's proof."""
        if not covered or proof.listed:
            proof.first = None
        elif proof.first is not None:
            return began >= proof.first + self._terms.interval_s
        elif began >= proof.seen + self._terms.settle_after_s:
            proof.first = began
        return False
