"""When a team's orders are looked for: often enough for a proof in time, and never over the reserve.

| what there is | a look each |
| --- | --- |
| unknown orders | `interval_s`, twice that after a look that was no good, and so on, up to `settle_after_s` |
| watched orders only | 12 × `interval_s` |
| neither | 120 × `interval_s`: a patrol, for what should not be there; after 12 again where it was no good |

The pace: each page of a listing is one call, and in no 61 s there are more than the reserve's. A listing of more pages
than that waits for its next call as often as it must. Two looks in a row make
a proof of absence once the youngest unknown order is ripe for it; so before that, calls for these two are kept. With
the defaults (5 calls a minute, 60 s, 5 s) that is three looks at once, and the proof 65 s after the order was seen.
Looks that are no good come every `settle_after_s` in the end: once OfferGrid is well again, one such wait and one
`interval_s` prove what was ripe.

All times are monotonic seconds.
"""

from collections import deque
from typing import Final

PACE_WINDOW_S: Final = 61.0
"""The minute of the key's limit, and a second for the network's jitter."""

WATCHED_EVERY: Final = 12
PATROL_EVERY: Final = 120
LOOKS_OF_A_PROOF: Final = 2
_ROUNDING_S: Final = 0.001
"""A wait is never so short that no clock shows it."""


class Cadence:
    """One team's looks, made one after the other. `started`: when this process began to look after the team.

    `at_once`: what is unknown then does not wait for its first look.
    """

    def __init__(
        self,
        *,
        interval_s: float,
        settle_after_s: float,
        per_minute: int,
        started: float,
        at_once: bool = False,
    ) -> None:
        self._interval_s = interval_s
        self._longest_s = max(interval_s, min(WATCHED_EVERY * interval_s, settle_after_s))
        self._per_minute = max(1, per_minute)
        self._calls: deque[float] = deque()
        self._pages = 1
        self._bad = 0
        self._began = started
        self._at_once = at_once
        self._patrolled = started

    def due(self, now: float, *, first_seen: float | None, watched: bool) -> bool:
        """Whether a look is due. `first_seen`: since when there are unknown orders; None where there are none."""
        if first_seen is not None:
            gap_s = min(self._interval_s * 2.0**self._bad, self._longest_s)
            return self._at_once or now >= max(self._began, first_seen) + gap_s
        return (watched or self.patrol_due(now)) and now >= self._began + WATCHED_EVERY * self._interval_s

    def patrol_due(self, now: float) -> bool:
        """Whether the next look is to see to everything that is listed."""
        return now >= self._patrolled + PATROL_EVERY * self._interval_s

    def may_begin(self, now: float, last_ripe: float | None) -> bool:
        """Whether there are calls for a look as long as the last one, and for the proof that is to come."""
        needs = min(self._pages, self._per_minute)
        if self._since(now - PACE_WINDOW_S) + needs > self._per_minute:
            return False
        if last_ripe is None or now >= last_ripe:
            return True
        spared = max(needs, self._per_minute - LOOKS_OF_A_PROOF * self._pages)
        return self._since(last_ripe - PACE_WINDOW_S) + needs <= spared

    def may_call(self, now: float) -> bool:
        """Whether there is a call for one page more."""
        return self._since(now - PACE_WINDOW_S) < self._per_minute

    def call_in(self, now: float) -> float:
        """Seconds until there is one; 0.0 where there is one now."""
        if self.may_call(now):
            return 0.0
        return max(self._calls[-self._per_minute] + PACE_WINDOW_S - now, _ROUNDING_S)

    def called(self, now: float) -> None:
        while self._calls and self._calls[0] <= now - PACE_WINDOW_S:
            self._calls.popleft()
        self._calls.append(now)

    def began(self, now: float) -> None:
        self._began, self._at_once = now, False

    def ended(self, *, good: bool, pages: int, patrolled_at: float | None) -> None:
        """`good`: it was complete, or settled something. `patrolled_at`: when it began, where it saw to everything."""
        self._bad = 0 if good else min(self._bad + 1, 16)
        self._pages = max(1, pages)
        self._patrolled = patrolled_at if patrolled_at is not None else self._patrolled

    def _since(self, instant: float) -> int:
        return sum(call > instant for call in self._calls)
