"""An order's wait for its turn: a place among those in flight, and its key's budget."""

import asyncio

from gateway.broker.admission import Admission, Turn
from gateway.clock import Clock
from gateway.flow.answer import NotNow, not_now
from gateway.flow.intake import Intake
from gateway.flow.ports import OrderRequest
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics


class Line:
    """Belongs to one event loop."""

    def __init__(self, admission: Admission, intake: Intake, clock: Clock, metrics: Metrics, log: Log) -> None:
        self._admission = admission
        self._intake = intake
        self._clock = clock
        self._metrics = metrics
        self._log = log

    def patience_s(self, request: OrderRequest) -> float:
        """How long the order may wait."""
        return self._admission.max_wait_s if request.wait_s is None else request.wait_s

    async def wait(self, order_id: str, request: OrderRequest, turn: Turn, until: float) -> NotNow | None:
        """None with a place, which the caller gives back; else why the order is not sent, and its turn is given up.

        `until`: a monotonic instant.
        """
        try:
            return await self._wait(request, turn, until)
        except Exception:  # noqa: BLE001 - an order that waits for ever would be nobody's
            self._log.exception("defect", where="order", request_id=request.request_id, order_id=order_id)
            return NotNow(why="defect")

    async def _wait(self, request: OrderRequest, turn: Turn, until: float) -> NotNow | None:
        hung_up = asyncio.ensure_future(request.hung_up())
        draining = asyncio.ensure_future(self._intake.until_draining())
        try:
            wait_s = max(0.0, until - self._clock.monotonic())
            if await self._admission.wait(turn, (hung_up, draining), wait_s=wait_s):
                return None
            short = self._admission.short_of(turn)
            self._admission.quit(turn)
            if hung_up.done() or draining.done():
                return NotNow(why="hung_up" if hung_up.done() else "draining")
            if short is None:
                return NotNow(why="overloaded")
            self._metrics.budget_rejected(request.tenant, short.why)
            return not_now(short)
        finally:
            for watch in (hung_up, draining):
                watch.cancel()
            await asyncio.gather(hung_up, draining, return_exceptions=True)
