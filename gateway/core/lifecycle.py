"""The life of an order, as data: which outcome may follow which, who may write it, and what must wait for it.

`TRANSITIONS` is the whole machine. Every write of the ledger is a compare-and-set on the order's `version` and names
one of these rows; docs/lifecycle.md is made from them.
"""

from typing import Final, Literal, get_args

import msgspec

Outcome = Literal["queued", "in_flight", "placed", "rejected", "not_placed", "unknown"]
OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)

SETTLED: Final[frozenset[Outcome]] = frozenset({"placed", "rejected", "not_placed"})
"""Known for good, as far as OfferGrid goes. `not_placed` may be tried again; the others are final."""

HELD: Final[frozenset[Outcome]] = frozenset({"queued", "in_flight"})
"""In the hands of a process, its owner."""

Writer = Literal["owner", "recovery", "reconciler", "operator", "reaper"]


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """`before` None: the ledger does not know the order; `after` None: it forgets it.

    `when` is the condition; `durable_before` names the outside effect that must wait until this is on the disk.
    """

    before: Outcome | None
    after: Outcome | None
    writer: Writer
    when: str
    durable_before: str


def _row(
    before: Outcome | None, after: Outcome | None, writer: Writer, when: str, durable_before: str
) -> Transition:
    return Transition(before=before, after=after, writer=writer, when=when, durable_before=durable_before)


_SEND: Final = "the first byte to OfferGrid"
_ANSWER: Final = "the first byte of the tenant's answer"

TRANSITIONS: Final[tuple[Transition, ...]] = (
    _row(None, "queued", "owner", "a new order, and no place is free", "any waiting, any 409 to others"),
    _row(None, "in_flight", "owner", "a new order, and a place is free", _SEND),
    _row("queued", "in_flight", "owner", "a place came free in time", _SEND),
    _row("queued", "not_placed", "owner", "no place in time, draining, or the tenant hung up", _ANSWER),
    _row("queued", "not_placed", "recovery", "the owner is proven gone: nothing was sent", "–"),
    _row("in_flight", "in_flight", "owner", "the attempt certainly cost nothing: the next one", _SEND),
    _row("in_flight", "placed", "owner", "by evidence", _ANSWER),
    _row("in_flight", "rejected", "owner", "by evidence", _ANSWER),
    _row("in_flight", "not_placed", "owner", "by evidence", _ANSWER),
    _row("in_flight", "unknown", "owner", "by evidence", _ANSWER),
    _row("in_flight", "unknown", "recovery", "the owner is proven gone: nobody saw what was sent", "–"),
    _row("unknown", "placed", "reconciler", "OfferGrid lists it", "any replay"),
    _row("unknown", "not_placed", "reconciler", "two complete listings agree that it is not there", "any resend"),
    _row("unknown", "placed", "operator", "by hand, with a reason", "any replay"),
    _row("unknown", "not_placed", "operator", "by hand, with a reason", "any resend"),
    _row("not_placed", "queued", "owner", "the same key and body again, and no place is free", "any waiting"),
    _row("not_placed", "in_flight", "owner", "the same key and body again", _SEND),
    _row("not_placed", "placed", "reconciler", "found late, against all evidence: an alarm", "any replay"),
    _row("placed", None, "reaper", "its key has expired, and it bears no witness any more", "–"),
    _row("rejected", None, "reaper", "its key has expired", "–"),
    _row("not_placed", None, "reaper", "its key has expired, and it is watched no more", "–"),
)

_ALLOWED: Final = frozenset((row.before, row.after, row.writer) for row in TRANSITIONS)


def may_follow(before: Outcome | None, after: Outcome | None, writer: Writer) -> bool:
    return (before, after, writer) in _ALLOWED
