"""Stage 7: how an order ended, durable before the tenant hears of it."""

import asyncio
from typing import Final

from gateway.errors import LedgerClosed, LedgerError, LedgerStale, LedgerUndecided, UpstreamOrderTaken
from gateway.flow.intake import Intake
from gateway.ledger.interface import AttemptEnd, Claimed, Ledger, Settlement

SETTLE_WITHIN_S: Final = 2.0
"""An answer that cannot be made durable in this time is not told: the outcome counts as unknown."""

SETTLE_AGAIN_S: Final = 0.5
"""Between two tries to write an end: a few within `SETTLE_WITHIN_S`, and no load for as long as it takes."""


class Settler:
    """Writes ends into the ledger. What outlasts the tenant's wait goes on, and draining waits for it."""

    def __init__(self, ledger: Ledger, intake: Intake) -> None:
        self._ledger = ledger
        self._intake = intake

    async def settle(
        self,
        claim: Claimed,
        ended: AttemptEnd | None,
        settlement: Settlement,
        *,
        otherwise: Settlement | None = None,
    ) -> Settlement | None:
        """What was written, durably; None where it could not be in time, which may still come through.

        `ended` None: the order was queued. `otherwise` is written where another order has the upstream order id.
        """
        writing = self._intake.start(self._write(claim, ended, settlement, otherwise), claim.order_id)
        try:
            async with asyncio.timeout(SETTLE_WITHIN_S):
                return await asyncio.shield(writing)
        except (LedgerError, TimeoutError):
            return None

    async def _write(
        self, claim: Claimed, ended: AttemptEnd | None, settlement: Settlement, otherwise: Settlement | None
    ) -> Settlement:
        """Goes on until the end is written or cannot be: nobody else settles an order that is in hand."""
        while True:
            try:
                await self._ledger.settle(claim, ended, settlement)
            except UpstreamOrderTaken:  # an answer meant for another order proves nothing about this one
                if otherwise is None:
                    raise
                settlement, otherwise = otherwise, None
            except (LedgerUndecided, LedgerStale, LedgerClosed):
                raise
            except LedgerError:  # nothing was written: a disk that was full, or a queue, may have room again
                await asyncio.sleep(SETTLE_AGAIN_S)
            else:
                return settlement
