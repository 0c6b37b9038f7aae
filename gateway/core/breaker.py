"""When to leave OfferGrid alone: after so many attempts in a row without a usable answer, for a while.

    closed     every order goes. `failures` attempts in a row that could not reach OfferGrid, or got no usable answer,
               open it; any usable answer, a 4xx or 429 too, begins the count anew
    open       no order goes for `open_s`
    half open  the first who asks then looks: one read, not an order. A whole answer below 500 closes; none opens again.
               A 5xx may be the read's own trouble: who looked sends its one order, and that one decides

Who looks, or sends the one order, may vanish on the way: after another `open_s` the next one looks.

Instants are monotonic seconds of the caller's. Belongs to one event loop.
"""

from typing import Final, Literal, assert_never

from gateway.core.evidence import Answered, Evidence, NotSent, Sent
from gateway.core.outcome import Verdict

Advice = Literal["go", "look", "no"]

CLOSED: Final = 0
HALF_OPEN: Final = 1
OPEN: Final = 2


class Breaker:
    """`state` is one of CLOSED, HALF_OPEN and OPEN, as the metric shows it."""

    def __init__(self, *, failures: int, open_s: float) -> None:
        self._limit = failures
        self._open_s = open_s
        self._failed = 0
        self._until = 0.0
        self.state = CLOSED

    def advice(self, now: float) -> Advice:
        """What an order that comes now should do. `look` is said to one, who must tell `looked`."""
        if self.state == CLOSED:
            return "go"
        if now < self._until:
            return "no"
        self._turn(HALF_OPEN, now)
        return "look"

    def opens_in(self, now: float) -> float:
        """Seconds until somebody may look again."""
        return max(0.0, self._until - now)

    def looked(self, evidence: Evidence, now: float) -> Advice:
        """What who looked should do now."""
        if not isinstance(evidence, Answered):
            self._turn(OPEN, now)
            return "no"
        if evidence.status < 500:
            self._close()
        else:
            self._turn(HALF_OPEN, now)
        return "go"

    def attempted(self, evidence: Evidence, verdict: Verdict, now: float) -> None:
        """How an order's attempt ended."""
        match _usable(evidence, verdict):
            case True:
                self._close()
            case False:
                self._failed += 1
                if self.state == HALF_OPEN or (self.state == CLOSED and self._failed >= self._limit):
                    self._turn(OPEN, now)
            case None:
                pass

    def _turn(self, state: int, now: float) -> None:
        self.state = state
        self._until = now + self._open_s

    def _close(self) -> None:
        self.state = CLOSED
        self._failed = 0


def _usable(evidence: Evidence, verdict: Verdict) -> bool | None:
    """None where the attempt says nothing of OfferGrid: it was not made for a reason of this side."""
    match evidence:
        case NotSent(reason="too_late" | "no_connection" | "no_budget" | "defect"):
            return None
        case NotSent() | Sent():
            return False
        case Answered():
            return verdict.cause != "unusable_answer"
        case _:
            assert_never(evidence)
