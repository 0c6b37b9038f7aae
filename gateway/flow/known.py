"""Answers about orders that are not sent: those that the ledger knows already, and those that are refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from gateway.core.lifecycle import Outcome
from gateway.errors import IdempotencyKeyReused, LedgerError, LedgerUnavailable, OutcomeUnknown, Problem
from gateway.flow.answer import (
    RETRY_UNKNOWN_S,
    Answer,
    answer_from,
    in_flight_answer,
    matched_by_body,
    problem_answer,
)
from gateway.flow.intake import Intake
from gateway.flow.ports import OrderRequest
from gateway.ledger.interface import Known
from gateway.telemetry.logs import Log

RETRY_SOON_S: Final = 1
RETRY_QUARANTINED_S: Final = 30
"""Somebody has to wake up first."""


def answer_known(known: Known, request: OrderRequest) -> Answer:
    """The key, or the body, names an order already. Raises IdempotencyKeyReused where it asks for something else."""
    stored = known.order
    if not known.same_body:
        raise IdempotencyKeyReused("The key belongs to an order with another body. Use a new key.")
    if stored.outcome in ("in_flight", "queued"):
        answer = in_flight_answer(stored.order_id, request_id=request.request_id)
    elif stored.outcome == "unknown" and stored.answer is None:  # its process died before it could say anything
        problem = OutcomeUnknown("The gateway was cut off while the order was on its way.")
        answer = refused(problem, request, RETRY_UNKNOWN_S, outcome="unknown", order_id=stored.order_id)
    else:
        answer = answer_from(stored, stored.order_id, replayed=stored.outcome != "unknown")
    return matched_by_body(answer) if known.by_body else answer


def refused(
    problem: Problem,
    request: OrderRequest,
    retry_s: int,
    *,
    outcome: Outcome = "not_placed",
    order_id: str | None = None,
) -> Answer:
    """A problem about an order. `not_placed` is said only of what the ledger does not know."""
    return problem_answer(
        problem, request_id=request.request_id, outcome=outcome, order_id=order_id, retry_s=retry_s
    )


@contextmanager
def knowledge(intake: Intake, log: Log) -> Iterator[None]:
    """For looking at orders. LedgerUnavailable where the ledger cannot be read, and while it is in quarantine: of an
    order that was placed since it says `not_placed`.
    """
    if intake.quarantined:
        detail = (
            "The ledger is older than what was placed, so what it says of orders may not be true; an operator has to"
            " run `ordergate db rejoin`."
        )
        raise LedgerUnavailable(detail, headers=(("retry-after", str(RETRY_QUARANTINED_S)),))
    try:
        yield
    except LedgerError as fault:
        log.error("ledger", where="read", reason=type(fault).__name__, error=str(fault))
        detail = "What the ledger knows cannot be read now. Orders stand as they were."
        raise LedgerUnavailable(detail, headers=(("retry-after", str(RETRY_SOON_S)),)) from fault


def rejoin_needed(request: OrderRequest) -> Answer:
    """Also for an order that the ledger knows: what it knows of it may be older than the truth."""
    detail = (
        "This request was not sent. The ledger is older than what was placed; an operator has to run `ordergate db"
        " rejoin`. An earlier request with the same key or body stands as it was."
    )
    return refused(LedgerUnavailable(detail), request, RETRY_QUARANTINED_S)


def ledger_unavailable(request: OrderRequest) -> Answer:
    detail = "This request was not sent. An earlier one with the same key or body stands as it was."
    return refused(LedgerUnavailable(detail), request, RETRY_SOON_S)
