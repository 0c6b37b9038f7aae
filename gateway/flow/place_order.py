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
    UpstreamOrderTaken,
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
    settlement_of,
)
from gateway.flow.ports import LendsKeys, Marks, OrderRequest, Places
from gateway.ledger.interface import AttemptStart, Claimed, Known, Ledger, NewOrder, Settlement
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics, OrderTimes

SETTLE_WITHIN_S: Final = 2.0
"""An answer that cannot be made durable in this time is not told: the outcome counts as unknown."""

RETRY_LEDGER_S: Final = 1


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes to send, with which key, for which request."""

    body: bytes
    key: LentKey
    request: OrderRequest


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
        prepared: Prepared | None = None
        try:
            prepared = self._prepare(request, key, claim.order_id, content)
            claim, evidence = await self._send_until_known(claim, prepared, times)
        except Exception:  # noqa: BLE001 - a defect of ours must not leave the order's outcome untold
            self._log.exception("defect", where="order", request_id=request.request_id, order_id=claim.order_id)
            evidence = Sent(reason="broken", detail="defect") if prepared else NotSent(reason="defect")
            told = await self._settle(claim, evidence, request)
            return self._refused(
                InternalError("The gateway failed; the outcome says what is known of the order."),
                request,
                RETRY_UNKNOWN_S,
                outcome="unknown" if told.outcome == "unknown" else "not_placed",
                order_id=claim.order_id,
            )
        return await self._settle(claim, evidence, request)

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

    async def _send_until_known(
        self, claim: Claimed, prepared: Prepared, times: OrderTimes
    ) -> tuple[Claimed, Evidence]:
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
                return claim, evidence
            await asyncio.sleep(pause)
            attempts += 1
            start = AttemptStart(key_id=prepared.key.key_id, started_ms=self._clock.wall_ms())
            try:
                claim = await self._ledger.next_attempt(claim, attempt_end(evidence, self._clock.wall_ms()), start)
            except LedgerError:
                return claim, evidence  # the attempt that is written down stays the last
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

    async def _settle(self, claim: Claimed, evidence: Evidence, request: OrderRequest) -> Answer:
        """The outcome, durable before the tenant hears of it."""
        writing = asyncio.ensure_future(self._write_end(claim, evidence, request))
        try:
            async with asyncio.timeout(SETTLE_WITHIN_S):
                settlement = await asyncio.shield(writing)
        except (LedgerError, TimeoutError):
            writing.add_done_callback(
                lambda late: late.cancelled() or late.exception()
            )  # it may still come through
            problem = OutcomeUnknown("What came of the order could not be written down.")
            return self._refused(problem, request, RETRY_UNKNOWN_S, outcome="unknown", order_id=claim.order_id)
        retry_s = retry_s_of(settlement.cause, evidence, wall_ms=self._clock.wall_ms())
        return answer_from(settlement, claim.order_id, retry_s=retry_s)

    async def _write_end(self, claim: Claimed, evidence: Evidence, request: OrderRequest) -> Settlement:
        verdict = classify(evidence)
        while True:
            settlement = settlement_of(verdict, evidence, order_id=claim.order_id, request_id=request.request_id)
            try:
                await self._ledger.settle(claim, attempt_end(evidence, self._clock.wall_ms()), settlement)
            except UpstreamOrderTaken:  # an answer meant for another order proves nothing about this one
                verdict = Verdict(outcome="unknown", cause="unusable_answer")
                continue
            return settlement

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
