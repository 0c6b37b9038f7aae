"""How long a connection may stay in each phase of its life, and which of them is the idlest.

Connections enter a phase and leave it; a sweep some times a second tells those whose time is over. That costs a
request two entries in ordered tables instead of a timer of its own, and the first entry of a table is always its
oldest. A phase ends up to `every_s` later than its limit says, never earlier.
"""

from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum
from typing import Final, Protocol

import msgspec

from gateway.clock import Clock
from gateway.settings import Settings

ADMIN_CONNECTIONS: Final = 64
"""For the operators' listener: a few people, Prometheus and scripts. Tenants' connections are not counted there."""

_SWEEPS_A_LIMIT: Final = 5
_MOST_BETWEEN_S: Final = 1.0
_LEAST_BETWEEN_S: Final = 0.02


class Phase(Enum):
    """What a connection is waiting for, where somebody has to end the wait. While an order is placed: none."""

    FRESH = "fresh"
    """Accepted, and nothing of a request came."""
    QUIET = "quiet"
    """Between two requests."""
    HEADER = "header"
    """A header section has begun and is not whole."""
    LEFTOVER = "leftover"
    """The request is answered, and its body still comes."""
    UNTAKEN = "untaken"
    """The peer does not take what is written. Beside another phase, not instead of it."""
    CLOSING = "closing"
    """Closed here, and not gone yet: the peer does not take the end of its answer."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one listener allows. Times in seconds. `beside`: connections that others in the process may need."""

    max_header_bytes: int
    header_timeout_s: float
    body_timeout_s: float
    idle_timeout_s: float
    max_connections: int
    beside: int

    @classmethod
    def of(cls, settings: Settings, listener: str) -> "Limits":
        """The limits of the listener `tenant` or `admin`. Only the number of connections is not the same for both."""
        api, orders = settings.tenant_api, settings.upstream.max_in_flight
        tenant = listener == "tenant"
        return cls(
            max_header_bytes=api.max_header_bytes,
            header_timeout_s=api.header_timeout_s,
            body_timeout_s=api.body_timeout_s,
            idle_timeout_s=api.idle_timeout_s,
            max_connections=api.max_connections if tenant else ADMIN_CONNECTIONS,
            beside=orders + (ADMIN_CONNECTIONS if tenant else api.max_connections),
        )

    def of_phases(self) -> Mapping[Phase, float]:
        return {
            # Whoever connects has something to say; a connection may rest for long once it has carried a request.
            Phase.FRESH: min(self.header_timeout_s, self.idle_timeout_s),
            Phase.QUIET: self.idle_timeout_s,
            Phase.HEADER: self.header_timeout_s,
            Phase.LEFTOVER: self.body_timeout_s,
            Phase.UNTAKEN: self.idle_timeout_s,
            Phase.CLOSING: self.body_timeout_s,
        }


class Watched(Protocol):
    """A connection, as the watch sees it."""

    phase: Phase | None

    def time_is_over(self, phase: Phase) -> None:
        """The wait is to end. The connection is in no phase when it is told."""

    def can_be_spared(self) -> bool:
        """Whether nothing would be lost with it: it is between requests, and none has arrived at the socket."""


class Watch:
    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._clock = clock
        self._limits = limits.of_phases()
        self._since: dict[Phase, OrderedDict[Watched, float]] = {phase: OrderedDict() for phase in Phase}
        shortest = min(self._limits.values()) / _SWEEPS_A_LIMIT
        self.every_s = max(_LEAST_BETWEEN_S, min(_MOST_BETWEEN_S, shortest))

    def enter(self, connection: Watched, phase: Phase | None) -> None:
        """The connection is in that phase from now on, and no longer in the one before."""
        if connection.phase is not None:
            del self._since[connection.phase][connection]
        connection.phase = phase
        if phase is not None:
            self._since[phase][connection] = self._clock.monotonic()

    def untaken(self, connection: Watched, *, begins: bool) -> None:
        """The peer stops, or begins again, to take what is written."""
        self._since[Phase.UNTAKEN].pop(connection, None)
        if begins:
            self._since[Phase.UNTAKEN][connection] = self._clock.monotonic()

    def leave(self, connection: Watched) -> None:
        self.enter(connection, None)
        self.untaken(connection, begins=False)

    def sweep(self) -> None:
        """Tells every connection whose time is over."""
        for phase, limit_s in self._limits.items():
            table = self._since[phase]
            over = self._clock.monotonic() - limit_s
            while table:
                connection, since = next(iter(table.items()))
                if since > over:
                    break
                if phase is Phase.UNTAKEN:
                    self.untaken(connection, begins=False)
                else:
                    self.enter(connection, None)
                connection.time_is_over(phase)

    def close_idlest(self, at_least_s: float) -> bool:
        """Ends the connection on which nothing was for the longest time; False where none has been idle so long."""
        before = self._clock.monotonic() - at_least_s
        found: list[tuple[float, Watched, Phase]] = []
        for phase in (Phase.FRESH, Phase.QUIET):
            for connection, since in self._since[phase].items():
                if since > before:
                    break
                if connection.can_be_spared():
                    found.append((since, connection, phase))
                    break
        if not found:
            return False
        _, connection, phase = min(found, key=lambda candidate: candidate[0])
        self.enter(connection, None)
        connection.time_is_over(phase)
        return True
