"""Stage 2: whether orders of a team may go on their way now, and with which key.

Each refusal is of the instance, of OfferGrid or of the team, never of one order: what the ledger knows already is told
all the same.
"""

import math

import msgspec

from gateway.broker.directory import KeyUnreadable, LentKey
from gateway.clock import Clock, new_uuid7
from gateway.core.breaker import Advice, Breaker
from gateway.core.evidence import NotSent
from gateway.core.outcome import Withdrawal
from gateway.errors import Draining, LedgerError, Problem, UpstreamCredentials, UpstreamUnavailable
from gateway.flow.answer import RETRY_CREDENTIALS_S
from gateway.flow.intake import Intake
from gateway.flow.known import RETRY_SOON_S
from gateway.flow.ports import CountsReads, LendsKeys, Shows
from gateway.telemetry.metrics import Metrics


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why an order is not sent now, and in how many seconds it may be worth another try."""

    why: Withdrawal
    problem: Problem
    retry_s: int


class Gate:
    """Belongs to one event loop. Waits only where the breaker is half open, for one read.

    `look_s`: how long that read may take.
    """

    def __init__(
        self,
        *,
        intake: Intake,
        keys: LendsKeys,
        reads: CountsReads,
        breaker: Breaker,
        upstream: Shows,
        clock: Clock,
        metrics: Metrics,
        look_s: float,
    ) -> None:
        self._intake = intake
        self._keys = keys
        self._reads = reads
        self._breaker = breaker
        self._upstream = upstream
        self._clock = clock
        self._metrics = metrics
        self._look_s = look_s

    async def key_for(self, team_id: int, team: str) -> LentKey | Refusal:
        if self._intake.draining:
            draining = Draining("Send the order to another instance, or again in a moment.")
            return Refusal(why="draining", problem=draining, retry_s=RETRY_SOON_S)
        key = self._keys.key_of(team_id)
        if not isinstance(key, LentKey):
            return Refusal(why="no_key", problem=UpstreamCredentials(_why_no_key(key)), retry_s=RETRY_CREDENTIALS_S)
        advice = self._breaker.advice(self._clock.monotonic())
        if advice == "look":
            advice = await self._look(key, team)
        if advice == "go":
            return key
        left_s = self._breaker.opens_in(self._clock.monotonic())
        unavailable = UpstreamUnavailable("OfferGrid gave no usable answer lately. It is left alone for a moment.")
        return Refusal(why="breaker", problem=unavailable, retry_s=max(RETRY_SOON_S, math.ceil(left_s)))

    async def _look(self, key: LentKey, team: str) -> Advice:
        """One harmless read: an order of an id that nobody has."""
        began = self._clock.monotonic()
        self._metrics.breaker(self._breaker.state)
        if not await self._may_read(key):
            return self._breaker.looked(NotSent(reason="no_budget"), began)  # it is left alone for a while longer
        evidence = await self._upstream.show_order(
            new_uuid7(self._clock), key=key.secret, deadline=began + self._look_s
        )
        now = self._clock.monotonic()
        self._metrics.attempt(team, "show", evidence, now - began)
        advice = self._breaker.looked(evidence, now)
        self._metrics.breaker(self._breaker.state)
        return advice

    async def _may_read(self, key: LentKey) -> bool:
        try:
            return key.terms is None or await self._reads.take_read(key.terms) is None
        except LedgerError:
            return False


def _why_no_key(key: KeyUnreadable | None) -> str:
    if key is None:
        return "The team has no active key. An operator has to add one."
    return "The team's key cannot be read. An operator has to mend it."
