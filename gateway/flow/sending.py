"""Stage 5, which costs money: an order's attempts, until it is known how they ended.

No first byte goes out after `send_by`, nor from a process that does not hold its orders any more: one that was stopped
and wakes up sends nothing.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from gateway.broker.directory import LentKey
from gateway.clock import Clock
from gateway.core.breaker import Breaker
from gateway.core.evidence import Answered, Evidence
from gateway.core.outcome import Judged, judged
from gateway.core.resend import asked_pause_s, pause_before_resend
from gateway.errors import LedgerError
from gateway.flow.answer import attempt_end
from gateway.flow.intake import Intake
from gateway.flow.ports import LendsKeys, OrderRequest, Places
from gateway.ledger.interface import AttemptEnd, AttemptStart, Claimed, Ledger
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics, OrderTimes

LARGE_ANSWER_BYTES: Final = 16_384
"""What takes longer to read than a turn of the event loop may be."""

READERS: Final = 2
"""Threads that read large answers: of their own, so that no tenant's large bodies stand before what was paid for."""


class InHand(msgspec.Struct, kw_only=True):
    """A claimed order: its newest version, with which key, until when, and whether a byte of it may have left.

    `deadline` and `send_by` are monotonic instants.
    """

    claim: Claimed
    request: OrderRequest
    key: LentKey
    times: OrderTimes
    deadline: float
    send_by: float
    may_be_sent: bool = False


class Sender:
    """Sends, and sends again only where core/resend.py says that it cannot cost a second order."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        upstream: Places,
        keys: LendsKeys,
        breaker: Breaker,
        intake: Intake,
        clock: Clock,
        metrics: Metrics,
        log: Log,
        timeout_s: float,
    ) -> None:
        self._ledger = ledger
        self._upstream = upstream
        self._keys = keys
        self._intake = intake
        self._log = log
        self._breaker = breaker
        self._clock = clock
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._readers = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="answer-reader")

    def in_hand(
        self, claim: Claimed, request: OrderRequest, key: LentKey, times: OrderTimes, began: float
    ) -> InHand:
        """`began`: the monotonic instant before the intent was written, from which all of the order's time counts."""
        deadline, send_by = began + self._timeout_s, began + self._timeout_s / 2
        return InHand(claim=claim, request=request, key=key, times=times, deadline=deadline, send_by=send_by)

    async def send_until_known(self, hand: InHand, body: bytes) -> Judged:
        """The last attempt's evidence, judged.

        Each attempt but the first, which the intent opened, is written down first.
        """
        attempts, tried = 1, {hand.key.key_id}
        hand.may_be_sent = True
        while True:
            evidence = await self._attempt(hand, body)
            found = await self._judged(evidence)
            verdict = found.verdict
            self._breaker.attempted(evidence, verdict, self._clock.monotonic())
            self._metrics.breaker(self._breaker.state)
            await self._pause(hand, evidence)
            another = None
            if verdict.cause == "key_refused":
                self._intake.start(self._refuse(hand), hand.claim.order_id)
                another = self._keys.key_beside(hand.request.tenant.team_id, tried)
            pause = pause_before_resend(
                evidence,
                verdict,
                another_key=another is not None,
                attempts=attempts,
                left_s=hand.deadline - self._clock.monotonic(),
                timeout_s=self._timeout_s,
                wall_ms=self._clock.wall_ms(),
            )
            if pause is None:
                return found
            await asyncio.sleep(pause)
            hand.times.waited_s += pause
            attempts += 1
            if another is not None:
                hand.key = another
                tried.add(another.key_id)
            if not await self._write_next(hand, attempt_end(evidence, self._clock.wall_ms())):
                return found  # the attempt that is written down stays the last
            self._metrics.resent(verdict.cause if isinstance(evidence, Answered) else "not_sent")

    async def _write_next(self, hand: InHand, ended: AttemptEnd) -> bool:
        """Whether the next attempt is written down, and counted. It waits for its budget as long as its time allows."""
        while True:
            started_ms = self._clock.wall_ms()
            start = AttemptStart(key_id=hand.key.key_id, started_ms=started_ms, terms=hand.key.terms)
            try:
                claim = await self._ledger.next_attempt(hand.claim, ended, start)
            except LedgerError:
                return False
            if isinstance(claim, Claimed):
                hand.claim = claim
                return True
            wait_s = claim.short.wait_ms / 1000
            if hand.deadline - self._clock.monotonic() - wait_s < self._timeout_s / 2:
                return False
            await asyncio.sleep(wait_s)
            hand.times.waited_s += wait_s

    async def _judged(self, evidence: Evidence) -> Judged:
        """A large answer is read beside the event loop."""
        if not isinstance(evidence, Answered) or len(evidence.body) <= LARGE_ANSWER_BYTES:
            return judged(evidence)
        return await asyncio.get_running_loop().run_in_executor(self._readers, judged, evidence)

    async def _pause(self, hand: InHand, evidence: Evidence) -> None:
        """Where OfferGrid asks to be left alone with this key, everybody is told before anything else goes out."""
        pause_s = asked_pause_s(evidence, wall_ms=self._clock.wall_ms())
        if pause_s is None:
            return
        try:
            await self._ledger.pause_key(hand.key.key_id, pause_s)
        except LedgerError as fault:  # others meet the same answer
            self._log.warning("ledger", where="pause_key", error=str(fault))

    async def _refuse(self, hand: InHand) -> None:
        """No order is sent with this key any more, by any instance, until an operator has verified it."""
        key_id, team = hand.key.key_id, hand.request.tenant.team
        try:
            if await self._ledger.refuse_key(key_id):
                self._log.warning("key_refused", key_id=key_id, team=team)
        except LedgerError as fault:  # it is tried once more by the next order, which meets the same 401
            self._log.warning("ledger", where="refuse_key", error=str(fault))

    async def _attempt(self, hand: InHand, body: bytes) -> Evidence:
        began = self._clock.monotonic()
        with self._metrics.upstream_in_flight():
            evidence = await self._upstream.place(
                body,
                request_id=hand.request.request_id,
                traceparent=hand.request.traceparent,
                key=hand.key.secret,
                deadline=hand.deadline,
                may_send=lambda: self._clock.monotonic() < hand.send_by and self._ledger.owns(),
            )
        seconds = self._clock.monotonic() - began
        hand.times.upstream_s += seconds
        self._metrics.attempt(hand.request.tenant.team, "place", evidence, seconds)
        return evidence
