"""The life of one order, top to bottom. The page's order is time's order.

    edge        web/orders.py: token → tenant · size · content type · all faults of the body
    1 describe  pure      order id, fingerprint
    2 admit               a place among the orders in flight; what is known already needs none
    3 record    DURABLE   the claim and the intent, before any byte can leave; what is known is answered instead
    4 prepare   pure      metadata, the bytes to send
    5 send      COSTS     returns evidence, never raises; sends again only what certainly cost nothing
    6 classify  pure      evidence → verdict, one total table (core/outcome.py)
    7 settle    DURABLE   compare-and-set on the order's version
    8 answer    pure      from what was written; a replay goes through the same function

What a crash leaves behind:

    died before 3   nothing: the tenant has no answer, OfferGrid no order
    between 3 and 7 the row says `in_flight`: the next start makes it `unknown`, for nobody saw whether it was sent, and
                    flow/reconcile.py looks for it at OfferGrid
    after 7         the answer is in the ledger, and the same order gets it again

Until there is a row, `not_placed` is said only of orders that the ledger does not know.
"""

import asyncio
from typing import Final

import msgspec

from gateway.broker.admission import Admission
from gateway.broker.directory import KeyUnreadable, LentKey
from gateway.clock import Clock, new_uuid7, rfc3339
from gateway.core.enrich import enriched
from gateway.core.evidence import Answered, Evidence, NotSent, Sent
from gateway.core.outcome import Verdict, classify
from gateway.core.resend import pause_before_resend
from gateway.errors import (
    Draining,
    InternalError,
    LedgerError,
    LedgerOverloaded,
    OutcomeUnknown,
    Overloaded,
    Problem,
    UpstreamCredentials,
)
from gateway.flow.answer import (
    RETRY_CREDENTIALS_S,
    RETRY_UNKNOWN_S,
    Answer,
    answer_from,
    attempt_end,
    matched_by_body,
    retry_s_of,
)
from gateway.flow.intake import Intake
from gateway.flow.known import RETRY_SOON_S, answer_known, ledger_unavailable, refused
from gateway.flow.ports import LendsKeys, Marks, OrderRequest, Places
from gateway.flow.settle import Settler
from gateway.ledger.interface import AttemptStart, Claimed, Known, Ledger, NewOrder
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics, OrderTimes

NEVER_MS: Final = 2**62
"""Later than any moment: no settled order matches."""


class _InHand(msgspec.Struct, kw_only=True):
    """A claimed order: its newest version, with which key, until when, and whether a byte of it may have left.

    `deadline` and `send_by` are monotonic instants. No first byte goes out after `send_by`: a process that was
    stopped and wakes up sends nothing.
    """

    claim: Claimed
    request: OrderRequest
    key: LentKey
    times: OrderTimes
    deadline: float
    send_by: float
    may_be_sent: bool = False


class OrderFlow:
    """Places orders. One instance a process; every order is independent of every other."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        ledger_id: str,
        upstream: Places,
        keys: LendsKeys,
        marks: Marks,
        admission: Admission,
        intake: Intake,
        clock: Clock,
        metrics: Metrics,
        log: Log,
        timeout_s: float,
        implicit_window_s: float,
    ) -> None:
        self._ledger = ledger
        self._settler = Settler(ledger, clock, intake)
        self._ledger_id = ledger_id
        self._upstream = upstream
        self._keys = keys
        self._marks = marks
        self._admission = admission
        self._intake = intake
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._timeout_s = timeout_s
        self._implicit_window_s = implicit_window_s

    async def place(self, request: OrderRequest, times: OrderTimes) -> Answer:
        """The order's answer, whatever happens on the way, also to whoever waits for it.

        `times` is filled in for metrics and `server-timing`. Raises IdempotencyKeyReused.
        """
        return await self._intake.run(self._place(request, times))

    async def _place(self, request: OrderRequest, times: OrderTimes) -> Answer:
        try:
            order = self._describe(request)
            if self._intake.draining:
                draining = Draining("Send the order to another instance, or again in a moment.")
                return await self._refuse_new(draining, order, request, RETRY_SOON_S)
            key = self._keys.key_of(request.tenant.team_id)
            if not isinstance(key, LentKey):
                no_key = UpstreamCredentials(_why_no_key(key))
                return await self._refuse_new(no_key, order, request, RETRY_CREDENTIALS_S)
            return await self._admit(order, request, key, times)
        except Problem:
            raise
        except Exception:  # noqa: BLE001 - a defect before there was anything to send; what follows tells its own
            self._log.exception("defect", where="order", request_id=request.request_id)
            return refused(InternalError("The gateway failed before sending anything."), request, RETRY_SOON_S)

    async def _admit(self, order: NewOrder, request: OrderRequest, key: LentKey, times: OrderTimes) -> Answer:
        began = self._clock.monotonic()
        try:
            if not await self._admission.enter_at_once():
                # What is known already must not wait for a place, nor be refused for want of one.
                known = await self._ledger.recall(order)
                if known is not None:
                    return answer_known(known, request)
                await self._admission.enter()
        except Overloaded as problem:
            return refused(problem, request, RETRY_SOON_S)
        except LedgerError:
            return ledger_unavailable(request)
        finally:
            times.waited_s = self._clock.monotonic() - began
            self._metrics.admission_wait(times.waited_s)
        try:
            return await self._place_admitted(order, request, key, times)
        finally:
            self._admission.leave()

    async def _place_admitted(
        self, order: NewOrder, request: OrderRequest, key: LentKey, times: OrderTimes
    ) -> Answer:
        began = self._clock.monotonic()
        attempt = AttemptStart(key_id=key.key_id, started_ms=self._clock.wall_ms())
        try:
            claim = await self._ledger.claim(order, attempt)
        except LedgerOverloaded as fault:
            return refused(Overloaded(str(fault)), request, RETRY_SOON_S)
        except LedgerError:
            return ledger_unavailable(request)
        if isinstance(claim, Known):
            return answer_known(claim, request)
        # From here on the row says `in_flight`; nothing asynchronous stands between it and the first byte.
        deadline, send_by = began + self._timeout_s, began + self._timeout_s / 2
        hand = _InHand(claim=claim, request=request, key=key, times=times, deadline=deadline, send_by=send_by)
        try:
            body = self._prepare(request, claim.order_id)
            hand.may_be_sent = True
            evidence = await self._send_until_known(hand, body)
            return await self._settle(hand, evidence, classify(evidence))
        except Exception:  # noqa: BLE001 - a defect of ours must not leave the order's outcome untold
            self._log.exception("defect", where="order", request_id=request.request_id, order_id=claim.order_id)
        return await self._settle_defect(hand)

    async def _settle_defect(self, hand: _InHand) -> Answer:
        """What is certain after a defect is only whether sending had begun.

        The verdicts are written out: `classify` may be what has failed.
        """
        evidence: Evidence = NotSent(reason="defect")
        verdict = Verdict(outcome="not_placed", cause="unreachable")
        if hand.may_be_sent:
            evidence = Sent(reason="broken", detail="defect")
            verdict = Verdict(outcome="unknown", cause="broken")
        told = await self._settle(hand, evidence, verdict)
        return refused(
            InternalError("The gateway failed; the outcome says what is known of the order."),
            hand.request,
            RETRY_UNKNOWN_S,
            outcome="unknown" if told.outcome == "unknown" else "not_placed",
            order_id=hand.claim.order_id,
        )

    def _describe(self, request: OrderRequest) -> NewOrder:
        tenant = request.tenant
        window_s = self._implicit_window_s if tenant.implicit_window_s is None else tenant.implicit_window_s
        return NewOrder(
            order_id=new_uuid7(self._clock),
            tenant_id=tenant.tenant_id,
            tenant=tenant.name,
            team_id=tenant.team_id,
            fingerprint=self._marks.mac("fingerprint", request.content),
            idempotency_key=request.idempotency_key,
            settled_since_ms=self._clock.wall_ms() - round(window_s * 1000) if window_s else NEVER_MS,
            created_ms=request.received_ms,
        )

    def _prepare(self, request: OrderRequest, order_id: str) -> bytes:
        """Where metadata is added. `gatewayClaim` lets a restored ledger know the order's key and body again."""
        tenant = request.tenant
        scope = b"%d:" % tenant.tenant_id
        asked = request.idempotency_key
        claim_key = "" if asked is None else self._marks.mac("claim-key", scope + asked.encode()).hex()
        claim_body = self._marks.mac("claim-body", scope + request.content).hex()
        own = {
            "gatewayOrderId": order_id,
            "gatewayTenant": tenant.name,
            "gatewayRequestId": request.request_id,
            "gatewayReceivedAt": rfc3339(request.received_ms),
            "gatewayClaim": f"{claim_key}.{claim_body}",
            "gatewayLedger": self._ledger_id,
        }
        return enriched(request.body, own=own, defaults=tenant.defaults, enforced=tenant.enforced)

    async def _send_until_known(self, hand: _InHand, body: bytes) -> Evidence:
        """Sends, and sends again only where core/resend.py says that it cannot cost a second order."""
        attempts = 1
        while True:
            evidence = await self._attempt(hand, body)
            pause = pause_before_resend(
                evidence,
                classify(evidence),
                attempts=attempts,
                left_s=hand.deadline - self._clock.monotonic(),
                timeout_s=self._timeout_s,
                wall_ms=self._clock.wall_ms(),
            )
            if pause is None:
                return evidence
            await asyncio.sleep(pause)
            hand.times.waited_s += pause
            attempts += 1
            start = AttemptStart(key_id=hand.key.key_id, started_ms=self._clock.wall_ms())
            ended = attempt_end(evidence, self._clock.wall_ms())
            try:
                hand.claim = await self._ledger.next_attempt(hand.claim, ended, start)
            except LedgerError:
                return evidence  # the attempt that is written down stays the last
            self._metrics.resent("throttled" if isinstance(evidence, Answered) else "not_sent")

    async def _attempt(self, hand: _InHand, body: bytes) -> Evidence:
        began = self._clock.monotonic()
        with self._metrics.upstream_in_flight():
            evidence = await self._upstream.place(
                body,
                request_id=hand.request.request_id,
                traceparent=hand.request.traceparent,
                key=hand.key.secret,
                deadline=hand.deadline,
                may_send=lambda: self._clock.monotonic() < hand.send_by,
            )
        seconds = self._clock.monotonic() - began
        hand.times.upstream_s += seconds
        self._metrics.attempt(hand.request.tenant.team, "place", evidence, seconds)
        return evidence

    async def _settle(self, hand: _InHand, evidence: Evidence, verdict: Verdict) -> Answer:
        """The outcome, durable before the tenant hears of it."""
        request, claim = hand.request, hand.claim
        settlement = await self._settler.settle(claim, evidence, verdict, request_id=request.request_id)
        if settlement is None:
            problem = OutcomeUnknown("What came of the order could not be written down.")
            return refused(problem, request, RETRY_UNKNOWN_S, outcome="unknown", order_id=claim.order_id)
        retry_s = retry_s_of(settlement.cause, evidence, wall_ms=self._clock.wall_ms())
        answer = answer_from(settlement, claim.order_id, retry_s=retry_s)
        return matched_by_body(answer) if claim.by_body else answer

    async def _refuse_new(self, problem: Problem, order: NewOrder, request: OrderRequest, retry_s: int) -> Answer:
        """What the ledger knows of this order already; the problem where it knows none."""
        try:
            known = await self._ledger.recall(order)
        except LedgerError:
            return ledger_unavailable(request)
        return refused(problem, request, retry_s) if known is None else answer_known(known, request)


def _why_no_key(key: KeyUnreadable | None) -> str:
    if key is None:
        return "The team has no active key. An operator has to add one."
    return "The team's key cannot be read. An operator has to mend it."
