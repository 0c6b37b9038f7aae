"""The life of one order, top to bottom. The page's order is time's order.

    edge        web/orders.py: token → tenant · size · content type · all faults of the body
    1 describe  pure      order id, the digests that it is recognised by                        flow/describe.py
    2 admit               draining, a key, a place among the orders in flight                   flow/gate.py
    3 record    DURABLE   the claim and the intent, before any byte can leave; what is known is answered instead.
                          Without a free place: the claim as `queued`, the wait, then the intent
    4 prepare   pure      metadata, the bytes to send                                           flow/describe.py
    5 send      COSTS     returns evidence, never raises; sends again only what certainly cost nothing
                                                                                                flow/sending.py
    6 classify  pure      evidence → verdict, one total table                                   core/outcome.py
    7 settle    DURABLE   compare-and-set on the order's version                                flow/settle.py
    8 answer    pure      from what was written; a replay goes through the same function        flow/answer.py

What a crash leaves behind:

    died before 3   nothing: the tenant has no answer, OfferGrid no order
    while waiting   the row says `queued`: nothing was sent, and whoever finds the process gone makes it `not_placed`
    between 3 and 7 the row says `in_flight`: whoever finds the process gone makes it `unknown`, for nobody saw whether
                    it was sent, and flow/reconcile.py looks for it at OfferGrid
    after 7         the answer is in the ledger, and the same order gets it again

Until there is a row, `not_placed` is said only of orders that the ledger does not know.
"""

from typing import Final

from msgspec import structs

from gateway.broker.admission import Admission, Lane, Turn
from gateway.broker.directory import LentKey
from gateway.clock import Clock
from gateway.core.evidence import Evidence, NotSent, Sent
from gateway.core.outcome import Judged, Verdict
from gateway.errors import (
    InternalError,
    LedgerError,
    LedgerOverloaded,
    LedgerUnavailable,
    OutcomeUnknown,
    Overloaded,
    Problem,
)
from gateway.flow.answer import (
    RETRY_UNKNOWN_S,
    Answer,
    NotNow,
    answer_from,
    attempt_end,
    matched_by_body,
    not_now,
    retry_s_of,
    settlement_of,
    with_allowances,
    withdrawal_problem,
    withdrawn,
)
from gateway.flow.describe import Describer
from gateway.flow.gate import Gate, Refusal
from gateway.flow.intake import Intake
from gateway.flow.known import RETRY_SOON_S, answer_known, ledger_unavailable, refused, rejoin_needed
from gateway.flow.line import Line
from gateway.flow.ports import OrderRequest
from gateway.flow.sending import InHand, Sender
from gateway.flow.settle import Settler
from gateway.ledger.interface import AttemptStart, Claimed, Known, Ledger, NewOrder, Patience, Short
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics, OrderTimes

_UNTAKEN: Final = "The order could not be written down, so it was not sent."
_MISLED: Final = Verdict(outcome="unknown", cause="unusable_answer")
"""An answer that names another order's id says nothing of this one."""


class OrderFlow:
    """Places orders. One instance a process; every order is independent of every other."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        describer: Describer,
        gate: Gate,
        admission: Admission,
        sender: Sender,
        intake: Intake,
        clock: Clock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._describer = describer
        self._gate = gate
        self._admission = admission
        self._sender = sender
        self._line = Line(admission, intake, clock, metrics, log)
        self._settler = Settler(ledger, intake)
        self._intake = intake
        self._clock = clock
        self._metrics = metrics
        self._log = log

    async def place(self, request: OrderRequest, times: OrderTimes) -> Answer:
        """The order's answer, whatever happens on the way, also to whoever waits for it.

        `times` is filled in for metrics and `server-timing`. Raises IdempotencyKeyReused.
        """
        return await self._intake.run(self._place(request, times), request.request_id)

    async def _place(self, request: OrderRequest, times: OrderTimes) -> Answer:
        order: NewOrder | None = None
        try:
            if self._intake.quarantined:
                return rejoin_needed(request)
            order = self._describer.order(request)
            key = await self._gate.key_for(request.tenant.team_id, request.tenant.team)
            if isinstance(key, Refusal):
                return await self._refuse_new(key, order, request)
            lane = Lane(request.tenant.team_id, request.tenant.tenant_id)
            if self._admission.enter_at_once(lane):
                return await self._place_at_once(order, request, key, lane, times)
            turn = self._admission.join(lane)
            if turn is None:
                too_many = Overloaded("Too many orders are waiting already.")
                full = Refusal(why="overloaded", problem=too_many, retry_s=RETRY_SOON_S)
                return await self._refuse_new(full, order, request)
            return await self._place_in_turn(order, request, turn, times)
        except Problem:
            raise
        except Exception:  # noqa: BLE001 - a defect before there was anything to send, or after all was done
            self._log.exception("defect", where="order", request_id=request.request_id)
        return await self._after_defect(order, request)

    async def _after_defect(self, order: NewOrder | None, request: OrderRequest) -> Answer:
        """What the ledger says of the order now: how far it had come is not known here. Raises IdempotencyKeyReused."""
        problem = InternalError("The gateway failed; the outcome says what is known of the order.")
        try:
            known = None if order is None else await self._ledger.recall(order)
        except Exception:  # noqa: BLE001 - the ledger may be what has failed
            return refused(problem, request, RETRY_UNKNOWN_S, outcome="unknown")
        return refused(problem, request, RETRY_SOON_S) if known is None else answer_known(known, request)

    async def _place_at_once(
        self, order: NewOrder, request: OrderRequest, key: LentKey, lane: Lane, times: OrderTimes
    ) -> Answer:
        """Claim and intent in one durable write; the claim alone where the key's budget is short, and then the line."""
        try:
            began = self._clock.monotonic()
            wait_s = 0.0 if self._admission.is_full else self._line.patience_s(request)
            patience = Patience(wait_ms=int(1000 * wait_s), only_part=self._admission.others_wait(lane))
            claim = await self._claim(order, request, self._attempt_with(key), patience)
            if not isinstance(claim, Claimed):
                return claim
            if claim.short is None:
                self._metrics.admission_wait(0.0)
                return await self._send(self._sender.in_hand(claim, request, key, times, began), order)
        finally:
            self._admission.leave()
        turn = self._admission.join(lane, claim.short)
        if turn is None:  # it filled up meanwhile
            return await self._withdraw(claim, request, NotNow(why="overloaded"))
        return await self._wait_and_send(claim, order, request, turn, times)

    async def _place_in_turn(self, order: NewOrder, request: OrderRequest, turn: Turn, times: OrderTimes) -> Answer:
        """The claim first, so that a second request finds it; then the wait for a place; then the intent."""
        claim: Claimed | Answer | None = None
        try:
            claim = await self._claim(order, request, None, Patience())
        finally:
            if not isinstance(claim, Claimed):
                self._admission.quit(turn)
        if not isinstance(claim, Claimed):
            return claim
        return await self._wait_and_send(claim, order, request, turn, times)

    async def _wait_and_send(
        self, claim: Claimed, order: NewOrder, request: OrderRequest, turn: Turn, times: OrderTimes
    ) -> Answer:
        """Waits for a place, and with it for the key's budget, until both are there or its patience ends."""
        joined = self._clock.monotonic()
        until = joined + self._line.patience_s(request)
        while True:
            why_not = await self._line.wait(claim.order_id, request, turn, until)
            times.waited_s = self._clock.monotonic() - joined
            self._metrics.admission_wait(times.waited_s)
            if why_not is not None:
                return await self._withdraw(claim, request, why_not)
            went: Answer | Short | None = None
            try:
                went = await self._start_and_send(claim, order, request, times)
            finally:
                if not isinstance(went, Short):
                    self._admission.leave()
            if not isinstance(went, Short):
                return went
            turn = self._admission.put_back(turn, went.short)

    async def _start_and_send(
        self, claim: Claimed, order: NewOrder, request: OrderRequest, times: OrderTimes
    ) -> Answer | Short:
        """With a place. `Short`: the key's budget does not allow it, and it is queued as before."""
        began = self._clock.monotonic()
        key = await self._gate.key_for(request.tenant.team_id, request.tenant.team)
        if isinstance(key, Refusal):  # things changed while the order waited
            return await self._withdraw(claim, request, NotNow(why=key.why))
        try:
            started = await self._ledger.start(claim, self._attempt_with(key))
        except LedgerError:
            return await self._withdraw(claim, request, NotNow(why="no_ledger"))
        if isinstance(started, Short):
            return started
        return await self._send(self._sender.in_hand(started, request, key, times, began), order)

    async def _claim(
        self, order: NewOrder, request: OrderRequest, attempt: AttemptStart | None, patience: Patience
    ) -> Claimed | Answer:
        """Stage 3. The answer where there is nothing to send: it is known, or it cannot be taken."""
        try:
            claim = await self._ledger.claim(order, attempt, patience)
        except LedgerError as fault:  # a ledger that takes no writes may still say what it knows
            problem = Overloaded(str(fault)) if isinstance(fault, LedgerOverloaded) else LedgerUnavailable(_UNTAKEN)
            refusal = Refusal(why="no_ledger", problem=problem, retry_s=RETRY_SOON_S)
            return await self._refuse_new(refusal, order, request)
        if isinstance(claim, Short):
            self._metrics.budget_rejected(request.tenant, claim.short.why)
            why_not = not_now(claim.short)
            answer = refused(withdrawal_problem(why_not.why), request, why_not.retry_s)
            return with_allowances(answer, claim.allowances)
        return answer_known(claim, request) if isinstance(claim, Known) else claim

    def _attempt_with(self, key: LentKey) -> AttemptStart:
        return AttemptStart(key_id=key.key_id, started_ms=self._clock.wall_ms(), terms=key.terms)

    async def _withdraw(self, claim: Claimed, request: OrderRequest, why: NotNow) -> Answer:
        """An order that waited and is not sent: written down before anyone is told."""
        problem = withdrawal_problem(why.why)
        settlement = withdrawn(problem, why.why, order_id=claim.order_id, request_id=request.request_id)
        # Where it cannot be written, it stays `queued` until it can: what is told is true all the same.
        await self._settler.settle(claim, None, settlement)
        answer = answer_from(settlement, claim.order_id, retry_s=why.retry_s)
        return matched_by_body(answer) if claim.by_body else answer

    async def _send(self, hand: InHand, order: NewOrder) -> Answer:
        """Stages 4 to 8. The row says `in_flight`; nothing asynchronous stands between it and the first byte."""
        try:
            body = self._describer.body(hand.request, order, hand.claim)
            answer = await self._settle(hand, await self._sender.send_until_known(hand, body))
            return with_allowances(answer, hand.claim.allowances)
        except Exception:  # noqa: BLE001 - a defect of ours must not leave the order's outcome untold
            about = {"request_id": hand.request.request_id, "order_id": hand.claim.order_id}
            self._log.exception("defect", where="order", **about)
        return await self._settle_defect(hand)

    async def _settle_defect(self, hand: InHand) -> Answer:
        """What is certain after a defect is only whether sending had begun.

        The verdicts are written out: judging may be what has failed.
        """
        evidence: Evidence = NotSent(reason="defect")
        verdict = Verdict(outcome="not_placed", cause="unreachable")
        if hand.may_be_sent:
            evidence = Sent(reason="broken", detail="defect")
            verdict = Verdict(outcome="unknown", cause="broken")
        told = await self._settle(hand, Judged(evidence=evidence, verdict=verdict))
        return refused(
            InternalError("The gateway failed; the outcome says what is known of the order."),
            hand.request,
            RETRY_UNKNOWN_S,
            outcome="unknown" if told.outcome == "unknown" else "not_placed",
            order_id=hand.claim.order_id,
        )

    async def _settle(self, hand: InHand, judged: Judged) -> Answer:
        """The outcome, durable before the tenant hears of it."""
        request, claim = hand.request, hand.claim
        about = {"order_id": claim.order_id, "request_id": request.request_id}
        placed = judged.verdict.outcome == "placed"
        settlement = await self._settler.settle(
            claim,
            attempt_end(judged.evidence, self._clock.wall_ms()),
            settlement_of(judged, **about),
            otherwise=settlement_of(structs.replace(judged, verdict=_MISLED), **about) if placed else None,
        )
        if settlement is None:
            problem = OutcomeUnknown("What came of the order could not be written down.")
            return refused(problem, request, RETRY_UNKNOWN_S, outcome="unknown", order_id=claim.order_id)
        retry_s = retry_s_of(settlement.cause, judged.evidence, wall_ms=self._clock.wall_ms())
        answer = answer_from(settlement, claim.order_id, retry_s=retry_s)
        return matched_by_body(answer) if claim.by_body else answer

    async def _refuse_new(self, refusal: Refusal, order: NewOrder, request: OrderRequest) -> Answer:
        """What the ledger knows of this order already; the problem where it knows none."""
        try:
            known = await self._ledger.recall(order)
        except LedgerError:
            return ledger_unavailable(request)
        return refused(refusal.problem, request, refusal.retry_s) if known is None else answer_known(known, request)
