"""The life of an order, as data: which outcome may follow which, and who may write it.

    –           → in_flight     the order's owner; durable before the first byte may leave
    in_flight   → placed · rejected · not_placed · unknown     the owner, by evidence; durable before the answer
    in_flight   → unknown       recovery, when the owner is gone
    unknown     → placed        reconciling, when OfferGrid lists the order
    not_placed  → in_flight     a new request with the same key and body: the next attempt

Every write of the ledger is a compare-and-set on the order's `version` and on one of these rows.
"""

from typing import Final, Literal, get_args

Outcome = Literal["queued", "in_flight", "placed", "rejected", "not_placed", "unknown"]
OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)

SETTLED: Final[frozenset[Outcome]] = frozenset({"placed", "rejected", "not_placed"})
"""Known for good, as far as OfferGrid goes. `not_placed` may be tried again; the others are final."""

Writer = Literal["owner", "recovery", "reconciler"]

TRANSITIONS: Final[frozenset[tuple[Outcome | None, Outcome, Writer]]] = frozenset(
    {
        (None, "in_flight", "owner"),
        ("in_flight", "placed", "owner"),
        ("in_flight", "rejected", "owner"),
        ("in_flight", "not_placed", "owner"),
        ("in_flight", "unknown", "owner"),
        ("in_flight", "unknown", "recovery"),
        ("unknown", "placed", "reconciler"),
        ("not_placed", "in_flight", "owner"),
    }
)


def may_follow(before: Outcome | None, after: Outcome, writer: Writer) -> bool:
    return (before, after, writer) in TRANSITIONS
