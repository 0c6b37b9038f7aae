"""The only source of time, ids and randomness.

Everything that asks "what time is it", "give me an id" or "give me random bytes" receives a `Clock`, so that
tests and simulations can replace all three at once. Two times are kept apart and never mixed:

- *wall* time (`wall_ms`, milliseconds since 1970, UTC) is for people and records, and may step;
- *monotonic* time (`monotonic`, seconds as a float from an arbitrary start) is for waits and limits.
"""

import os
import time
import uuid
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC. May step either way."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never steps back within a process."""

    def random_bytes(self, count: int) -> bytes:
        """`count` bytes fit for keys and tokens."""


class SystemClock:
    """The operating system's clocks and random generator."""

    __slots__ = ()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)


def new_uuid7(clock: Clock) -> str:
    """A UUIDv7 (RFC 9562, section 5.7) in its 36-character text form: 48 bits of wall time, 74 random bits."""
    millis = clock.wall_ms() & 0xFFFF_FFFF_FFFF
    tail = int.from_bytes(clock.random_bytes(10), "big")
    rand_a, rand_b = (tail >> 62) & 0xFFF, tail & 0x3FFF_FFFF_FFFF_FFFF
    return str(uuid.UUID(int=(millis << 80) | (0x7 << 76) | (rand_a << 64) | (0b10 << 62) | rand_b))


def rfc3339(wall_ms: int) -> str:
    """`2026-01-02T03:04:05.678Z` for milliseconds since the epoch."""
    moment = datetime.fromtimestamp(wall_ms / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{wall_ms % 1000:03d}Z"
