"""What the tenant is told: from a verdict to what is written down, and from what is written down to an answer.

An answer is always made from what the ledger holds, so that a replay goes through the same function as the first
answer and says the same bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec
from msgspec import structs

from gateway.core.budget import Allowance, Shortage
from gateway.core.evidence import Answered, Evidence, NotSent, Sent
from gateway.core.lifecycle import Outcome
from gateway.core.outcome import Cause, Ending, Judged, Verdict, Withdrawal
from gateway.core.problems import MEDIA_TYPE, AboutOrder, document, upstream_body
from gateway.core.resend import retry_after_s
from gateway.errors import (
    BudgetExhausted,
    Draining,
    InternalError,
    LedgerUnavailable,
    OrderInFlight,
    OrderRejected,
    OutcomeUnknown,
    OutcomeUnknownTimeout,
    Overloaded,
    Problem,
    UpstreamCredentials,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from gateway.ledger.interface import AttemptEnd, Settlement

RETRY_IN_FLIGHT_S: Final = 1
RETRY_UNREACHABLE_S: Final = 1
RETRY_UNKNOWN_S: Final = 5
RETRY_CREDENTIALS_S: Final = 60
"""A key is mended by people."""

WINDOW_S: Final[Mapping[str, int]] = {"minute": 60, "hour": 3600}

_DETAILS: Final[Mapping[Cause, str]] = {
    "placed": "",
    "rejected": "OfferGrid refused the order; its answer is in `upstream`.",
    "unreachable": "No byte of the order left the gateway. It may be sent again.",
    "throttled": "OfferGrid is over the key's limit and did not act on the order.",
    "key_refused": "OfferGrid does not accept the team's key. An operator has to mend it.",
    "key_forbidden": "OfferGrid does not let the team's key place orders. An operator has to mend it.",
    "timeout": "The order was sent and no whole answer came in time. OfferGrid may have it. Do not send it anew.",
    "broken": "The order was sent and the connection broke. OfferGrid may have it. Do not send it anew.",
    "unusable_answer": "OfferGrid's answer does not say whether it has the order. Do not send it anew.",
}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer about an order. `outcome` is the metric's label for it."""

    status: int
    body: bytes
    content_type: str
    outcome: str
    order_id: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


class Told(Protocol):
    """What an answer is made from: a settlement that was just written, or a stored order."""

    @property
    def outcome(self) -> Outcome: ...
    @property
    def http_status(self) -> int | None: ...
    @property
    def response(self) -> bytes | None: ...
    @property
    def answer(self) -> bytes | None: ...


def settlement_of(judged: Judged, *, order_id: str, request_id: str) -> Settlement:
    """What is written down of an order that this verdict ends."""
    verdict, evidence = judged.verdict, judged.evidence
    problem = _problem(verdict, evidence)
    response, upstream = None, None
    if isinstance(evidence, Answered):
        response = evidence.body
        if problem is not None:
            upstream = (evidence.status, upstream_body(response, is_json=judged.is_json))
    about = AboutOrder(
        outcome=verdict.outcome, retryable=verdict.outcome != "rejected", order_id=order_id, upstream=upstream
    )
    return Settlement(
        outcome=verdict.outcome,
        cause=verdict.cause,
        http_status=problem.status if problem else 201,
        upstream_order_id=verdict.upstream_order_id,
        upstream_status=judged.status if problem is None else None,
        response=response,
        answer=document(problem, request_id=request_id, order=about) if problem else None,
    )


def withdrawal_problem(why: Withdrawal) -> Problem:
    """What is told of an order that waited and is not sent."""
    match why:
        case "overloaded":
            return Overloaded("No place came free in time.")
        case "budget":
            return BudgetExhausted("The key's budget did not allow the order in time.")
        case "paused":
            return UpstreamThrottled("OfferGrid is over the key's limit and asked for a pause.")
        case "draining":
            return Draining("Send the order to another instance, or again in a moment.")
        case "hung_up":
            return Overloaded("The tenant hung up while the order waited.")
        case "no_key":
            return UpstreamCredentials("The team's key was taken away while the order waited.")
        case "breaker":
            return UpstreamUnavailable("OfferGrid gave no usable answer lately.")
        case "no_ledger":
            return LedgerUnavailable("The intent could not be written down.")
        case "defect":
            return InternalError("The gateway failed before sending anything.")


class NotNow(msgspec.Struct, frozen=True, kw_only=True):
    """Why an order that waited is not sent, and in how many seconds it may be worth another try."""

    why: Withdrawal
    retry_s: int = 1


def not_now(short: Shortage) -> NotNow:
    """A budget that is short: `retry-after` is when it allows the order, if nobody else comes first."""
    return NotNow(why="paused" if short.why == "paused" else "budget", retry_s=max(1, -(-short.wait_ms // 1000)))


def withdrawn(problem: Problem, why: Withdrawal, *, order_id: str, request_id: str) -> Settlement:
    """What is written down of an order that was waiting and is not sent any more. Who hung up is told nothing."""
    about = AboutOrder(outcome="not_placed", retryable=True, order_id=order_id)
    return Settlement(
        outcome="not_placed",
        cause=why,
        http_status=None if why == "hung_up" else problem.status,
        answer=document(problem, request_id=request_id, order=about),
    )


def answer_from(told: Told, order_id: str, *, replayed: bool = False, retry_s: int | None = None) -> Answer:
    """The answer that a settled order stands for; the same status and the same bytes each time."""
    problem = told.answer is not None
    headers: list[tuple[str, str]] = []
    if replayed:
        headers.append(("idempotent-replayed", "true"))
    if told.outcome == "unknown":
        retry_s = RETRY_UNKNOWN_S
    if retry_s is not None:
        headers.append(("retry-after", str(retry_s)))
    return Answer(
        status=told.http_status or Overloaded.status,  # nobody is there who could read another one
        body=(told.answer if problem else told.response) or b"",
        content_type=MEDIA_TYPE if problem else "application/json",
        outcome="replayed" if replayed else told.outcome,
        order_id=order_id,
        headers=tuple(headers),
    )


def attempt_end(evidence: Evidence, wall_ms: int) -> AttemptEnd:
    """What is written down of an attempt that this evidence ends."""
    match evidence:
        case Answered(status=status):
            return AttemptEnd(ended_ms=wall_ms, evidence="answered", status=status)
        case Sent():
            return AttemptEnd(ended_ms=wall_ms, evidence="sent", status=None)
        case NotSent():
            return AttemptEnd(ended_ms=wall_ms, evidence="not_sent", status=None)


def retry_s_of(cause: Ending, evidence: Evidence, *, wall_ms: int) -> int | None:
    """`retry-after` for a first answer, in whole seconds; None where sending again has no sense."""
    match cause:
        case "throttled":
            assert isinstance(evidence, Answered)
            return retry_after_s(evidence.retry_after, wall_ms=wall_ms)
        case "unreachable":
            return RETRY_UNREACHABLE_S
        case "key_refused" | "key_forbidden":
            return RETRY_CREDENTIALS_S
        case _:
            return None


def problem_answer(
    problem: Problem, *, request_id: str, outcome: Outcome, order_id: str | None = None, retry_s: int | None = None
) -> Answer:
    """An answer about an order that does not come out of the ledger's row."""
    about = AboutOrder(outcome=outcome, retryable=True, order_id=order_id)
    retry = () if retry_s is None else (("retry-after", str(retry_s)),)
    return Answer(
        status=problem.status,
        body=document(problem, request_id=request_id, order=about),
        content_type=MEDIA_TYPE,
        outcome=outcome,
        order_id=order_id,
        headers=(*problem.headers, *retry),
    )


def with_allowances(answer: Answer, allowances: Sequence[Allowance]) -> Answer:
    """Says what is left of the budget, in the fields of the IETF's draft: one item a window, in whole seconds."""
    if not allowances:
        return answer
    policy = ", ".join(f'"{each.window}";q={each.limit};w={WINDOW_S[each.window]}' for each in allowances)
    left = ", ".join(f'"{each.window}";r={each.left};t={-(-each.next_ms // 1000)}' for each in allowances)
    return structs.replace(answer, headers=(*answer.headers, ("ratelimit-policy", policy), ("ratelimit", left)))


def matched_by_body(answer: Answer) -> Answer:
    """Says that it was the body by which the order was found: the request had no key."""
    return structs.replace(
        answer,
        outcome="replayed_by_body" if answer.outcome == "replayed" else answer.outcome,
        headers=(*answer.headers, ("ordergate-matched-by", "body")),
    )


def in_flight_answer(order_id: str, *, request_id: str) -> Answer:
    """The same key while the first request is still running."""
    return problem_answer(
        OrderInFlight("The order is on its way; ask again for its end."),
        request_id=request_id,
        outcome="in_flight",
        order_id=order_id,
        retry_s=RETRY_IN_FLIGHT_S,
    )


def _problem(verdict: Verdict, evidence: Evidence) -> Problem | None:
    """The problem that a verdict means to the tenant; None where the order is placed."""
    detail = _DETAILS[verdict.cause]
    match verdict.cause:
        case "placed":
            return None
        case "rejected":
            assert isinstance(evidence, Answered)
            rejected = OrderRejected(detail)
            rejected.status = evidence.status
            return rejected
        case "unreachable":
            return UpstreamUnavailable(detail)
        case "throttled":
            return UpstreamThrottled(detail)
        case "key_refused" | "key_forbidden":
            return UpstreamCredentials(detail)
        case "timeout":
            return OutcomeUnknownTimeout(detail)
        case "broken" | "unusable_answer":
            return OutcomeUnknown(detail)
