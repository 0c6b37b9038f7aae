"""The life of one order, top to bottom. The page's order is time's order.

    edge        web/orders.py: token → tenant · size · content type · all faults of the body
    1 describe  pure      order id, fingerprint
    2 admit               a place among the orders in flight, until the deadline
    3 record    DURABLE   the claim and the intent, before any byte can leave; a known key is answered instead
    4 prepare   pure      metadata, the bytes to send
    5 send      COSTS     returns evidence, never raises; sends again only what certainly cost nothing
    6 classify  pure      evidence → verdict, one total table (core/outcome.py)
    7 settle    DURABLE   compare-and-set on the order's version
    8 answer    pure      from what was written; a replay goes through the same function

What a crash leaves behind:

    died before 3   nothing: the tenant has no answer, OfferGrid no order
    between 3 and 7 the row says `in_flight`: the next start makes it `unknown`, for nobody saw whether it was sent
    after 7         the answer is in the ledger, and the same key gets it again
"""

import asyncio
from typing import Final

import msgspec

from gateway.broker.admission import Admission
from gateway.broker.directory import KeyUnreadable, LentKey
from gateway.clock import Clock, new_uuid7, rfc3339
from gateway.core.enrich import enriched
from gateway.core.evidence import Answered, Evidence, NotSent, Sent
from gateway.core.json_text import canonical_json
from gateway.core.lifecycle import Outcome
from gateway.core.outcome import Verdict, classify
from gateway.core.resend import pause_before_resend
from gateway.errors import (
    IdempotencyKeyReused,
    InternalError,
    LedgerError,
    LedgerOverloaded,
    LedgerUnavailable,
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
    in_flight_answer,
    problem_answer,
    retry_s_of,
)
from gateway.flow.ports import LendsKeys, Marks, OrderRequest, Places
from gateway.flow.settle import Settler
from gateway.ledger.interface import AttemptStart, Claimed, Known, Ledger, NewOrder
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics, OrderTimes

RETRY_LEDGER_S: Final = 1


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes to send, with which key, for which request."""

    body: bytes
    key: LentKey
    request: OrderRequest


class _InHand(msgspec.Struct, kw_only=True):
    """A claimed order: its newest version, and whether a byte of it may have left."""

    claim: Claimed
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
        clock: Clock,
        metrics: Metrics,
        log: Log,
        timeout_s: float,
    ) -> None:
        self._ledger = ledger
        self._settler = Settler(ledger, clock)
        self._ledger_id = ledger_id
        self._upstream = upstream
        self._keys = keys
        self._marks = marks
        self._admission = admission
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._timeout_s = timeout_s

    async def place(self, request: OrderRequest, times: OrderTimes) -> Answer:
        """The order's answer, whatever happens on the way. `times` is filled in for metrics and `server-timing`."""
        key = self._keys.key_of(request.tenant.team_id)
        if not isinstance(key, LentKey):
            return self._refused(UpstreamCredentials(_why_no_key(key)), request, RETRY_CREDENTIALS_S)
        began = self._clock.monotonic()
        try:
            await self._admission.enter()
        except Overloaded as problem:
            return self._refused(problem, request, RETRY_LEDGER_S)
        finally:
            times.waited_s = self._clock.monotonic() - began
            self._metrics.admission_wait(times.waited_s)
        try:
            return await self._place_admitted(request, key, times)
        finally:
            self._admission.leave()

    async def _place_admitted(self, request: OrderRequest, key: LentKey, times: OrderTimes) -> Answer:
        content = canonical_json(request.body.values())
        order = self._describe(request, content)
        attempt = AttemptStart(key_id=key.key_id, started_ms=self._clock.wall_ms())
        try:
            claim = await self._ledger.claim(order, attempt)
        except LedgerOverloaded as fault:
            return self._refused(Overloaded(str(fault)), request, RETRY_LEDGER_S)
        except LedgerError:
            problem = LedgerUnavailable("The order could not be written down, so it was not sent.")
            return self._refused(problem, request, RETRY_LEDGER_S)
        if isinstance(claim, Known):
            return self._answer_known(claim, request)
        # From here on the row says `in_flight`; nothing asynchronous stands between it and the first byte.
        hand = _InHand(claim=claim)
        try:
            prepared = self._prepare(request, key, claim.order_id, content)
            hand.may_be_sent = True
            evidence = await self._send_until_known(hand, prepared, times)
            return await self._settle(hand.claim, evidence, classify(evidence), request)
        except Exception:  # noqa: BLE001 - a defect of ours must not leave the order's outcome untold
            self._log.exception("defect", where="order", request_id=request.request_id, order_id=claim.order_id)
        return await self._settle_defect(hand, request)

    async def _settle_defect(self, hand: _InHand, request: OrderRequest) -> Answer:
        """Without the code that may have failed: what is certain is only whether sending had begun."""
        evidence: Evidence = NotSent(reason="defect")
        verdict = Verdict(outcome="not_placed", cause="unreachable")
        if hand.may_be_sent:
            evidence = Sent(reason="broken", detail="defect")
            verdict = Verdict(outcome="unknown", cause="broken")
        told = await self._settle(hand.claim, evidence, verdict, request)
        return self._refused(
            InternalError("The gateway failed; the outcome says what is known of the order."),
            request,
            RETRY_UNKNOWN_S,
            outcome="unknown" if told.outcome == "unknown" else "not_placed",
            order_id=hand.claim.order_id,
        )

    def _describe(self, request: OrderRequest, content: bytes) -> NewOrder:
        return NewOrder(
            order_id=new_uuid7(self._clock),
            tenant_id=request.tenant.tenant_id,
            tenant=request.tenant.name,
            team_id=request.tenant.team_id,
            fingerprint=self._marks.mac("fingerprint", content),
            idempotency_key=request.idempotency_key,
            created_ms=request.received_ms,
        )

    def _answer_known(self, known: Known, request: OrderRequest) -> Answer:
        """The key names an order already. Nothing is sent."""
        stored = known.order
        if not known.same_body:
            raise IdempotencyKeyReused("The key belongs to an order with another body. Use a new key.")
        if stored.outcome in ("in_flight", "queued"):
            return in_flight_answer(stored.order_id, request_id=request.request_id)
        if stored.outcome == "unknown" and stored.answer is None:  # its process died before it could say anything
            problem = OutcomeUnknown("The gateway was cut off while the order was on its way.")
            return self._refused(problem, request, RETRY_UNKNOWN_S, outcome="unknown", order_id=stored.order_id)
        return answer_from(stored, stored.order_id, replayed=stored.outcome != "unknown")

    def _prepare(self, request: OrderRequest, key: LentKey, order_id: str, content: bytes) -> Prepared:
        """Where metadata is added. `gatewayClaim` lets a restored ledger know the order's key and body again."""
        tenant = request.tenant
        scope = b"%d:" % tenant.tenant_id
        asked = request.idempotency_key
        claim_key = "" if asked is None else self._marks.mac("claim-key", scope + asked.encode()).hex()
        claim_body = self._marks.mac("claim-body", scope + content).hex()
        own = {
            "gatewayOrderId": order_id,
            "gatewayTenant": tenant.name,
            "gatewayRequestId": request.request_id,
            "gatewayReceivedAt": rfc3339(request.received_ms),
            "gatewayClaim": f"{claim_key}.{claim_body}",
            "gatewayLedger": self._ledger_id,
        }
        return Prepared(
            body=enriched(request.body, own=own, defaults=tenant.defaults, enforced=tenant.enforced),
            key=key,
            request=request,
        )

    async def _send_until_known(self, hand: _InHand, prepared: Prepared, times: OrderTimes) -> Evidence:
        """Sends, and sends again only where core/resend.py says that it cannot cost a second order."""
        began = self._clock.monotonic()
        deadline, send_by = began + self._timeout_s, began + self._timeout_s / 2
        attempts = 1
        while True:
            evidence = await self._attempt(prepared, deadline, send_by, times)
            now = self._clock.monotonic()
            pause = pause_before_resend(
                evidence,
                classify(evidence),
                attempts=attempts,
                left_s=deadline - now,
                timeout_s=self._timeout_s,
                wall_ms=self._clock.wall_ms(),
            )
            if pause is None:
                return evidence
            await asyncio.sleep(pause)
            attempts += 1
            start = AttemptStart(key_id=prepared.key.key_id, started_ms=self._clock.wall_ms())
            ended = attempt_end(evidence, self._clock.wall_ms())
            try:
                hand.claim = await self._ledger.next_attempt(hand.claim, ended, start)
            except LedgerError:
                return evidence  # the attempt that is written down stays the last
            self._metrics.resent("throttled" if isinstance(evidence, Answered) else "not_sent")

    async def _attempt(self, prepared: Prepared, deadline: float, send_by: float, times: OrderTimes) -> Evidence:
        began = self._clock.monotonic()
        with self._metrics.upstream_in_flight():
            evidence = await self._upstream.place(
                prepared.body,
                request_id=prepared.request.request_id,
                traceparent=prepared.request.traceparent,
                key=prepared.key.secret,
                deadline=deadline,
                may_send=lambda: self._clock.monotonic() < send_by,
            )
        seconds = self._clock.monotonic() - began
        times.upstream_s += seconds
        self._metrics.attempt(prepared.request.tenant.team, "place", evidence, seconds)
        return evidence

    async def _settle(self, claim: Claimed, evidence: Evidence, verdict: Verdict, request: OrderRequest) -> Answer:
        """The outcome, durable before the tenant hears of it."""
        settlement = await self._settler.settle(claim, evidence, verdict, request_id=request.request_id)
        if settlement is None:
            problem = OutcomeUnknown("What came of the order could not be written down.")
            return self._refused(problem, request, RETRY_UNKNOWN_S, outcome="unknown", order_id=claim.order_id)
        retry_s = retry_s_of(settlement.cause, evidence, wall_ms=self._clock.wall_ms())
        return answer_from(settlement, claim.order_id, retry_s=retry_s)

    def _refused(
        self,
        problem: Problem,
        request: OrderRequest,
        retry_s: int,
        *,
        outcome: Outcome = "not_placed",
        order_id: str | None = None,
    ) -> Answer:
        return problem_answer(
            problem, request_id=request.request_id, outcome=outcome, order_id=order_id, retry_s=retry_s
        )


def _why_no_key(key: KeyUnreadable | None) -> str:
    if key is None:
        return "The team has no active key. An operator has to add one."
    return "The team's key cannot be read. An operator has to mend it."
