"""Stage 7: how an order ended, durable before the tenant hears of it."""

import asyncio
from typing import Final

from gateway.clock import Clock
from gateway.core.evidence import Evidence
from gateway.core.outcome import Verdict
from gateway.errors import LedgerClosed, LedgerError, LedgerStale, LedgerUndecided, UpstreamOrderTaken
from gateway.flow.answer import attempt_end, settlement_of
from gateway.flow.intake import Intake
from gateway.ledger.interface import Claimed, Ledger, Settlement

SETTLE_WITHIN_S: Final = 2.0
"""An answer that cannot be made durable in this time is not told: the outcome counts as unknown."""

SETTLE_AGAIN_S: Final = 0.5
"""Between two tries to write an end: a few within `SETTLE_WITHIN_S`, and no load for as long as it takes."""


class Settler:
    """Writes ends into the ledger. What outlasts the tenant's wait goes on, and draining waits for it."""

    def __init__(self, ledger: Ledger, clock: Clock, intake: Intake) -> None:
        self._ledger = ledger
        self._clock = clock
        self._intake = intake

    async def settle(
        self, claim: Claimed, evidence: Evidence, verdict: Verdict, *, request_id: str
    ) -> Settlement | None:
        """What was written, durably; None where it could not be in time, which may still come through."""
        writing = self._intake.start(self._write(claim, evidence, verdict, request_id))
        try:
            async with asyncio.timeout(SETTLE_WITHIN_S):
                return await asyncio.shield(writing)
        except (LedgerError, TimeoutError):
            return None

    async def _write(self, claim: Claimed, evidence: Evidence, verdict: Verdict, request_id: str) -> Settlement:
        """Goes on until the end is written or cannot be: an order left `in_flight` is nobody's until a restart."""
        while True:
            settlement = settlement_of(verdict, evidence, order_id=claim.order_id, request_id=request_id)
            try:
                await self._ledger.settle(claim, attempt_end(evidence, self._clock.wall_ms()), settlement)
            except UpstreamOrderTaken:  # an answer meant for another order proves nothing about this one
                verdict = Verdict(outcome="unknown", cause="unusable_answer")
            except (LedgerUndecided, LedgerStale, LedgerClosed):
                raise
            except LedgerError:  # nothing was written: a disk that was full, or a queue, may have room again
                await asyncio.sleep(SETTLE_AGAIN_S)
            else:
                return settlement
