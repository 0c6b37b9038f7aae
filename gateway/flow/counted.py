"""Reads for an operator, each counted against its key's reserve before it is made, as everything that a key carries."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from gateway.broker.directory import LentKey
from gateway.broker.vault import Secret
from gateway.clock import Clock
from gateway.core.evidence import Evidence, NotSent
from gateway.core.resend import asked_pause_s
from gateway.flow.ports import CountsReads

PATIENCE_S: Final = 70.0
"""For one page. In a minute the whole reserve comes back."""


class Lists(Protocol):
    """One page of an account's orders, by default the first. Never raises; doubt is `Sent`."""

    async def list_orders(
        self, *, key: Secret, deadline: float, page: str | None = None, spent_bytes: int = 0
    ) -> Evidence: ...


class CountedLists:
    """`Lists` with one key. Raises LedgerError where nothing can be counted: then nothing is asked."""

    def __init__(
        self,
        upstream: Lists,
        reads: CountsReads,
        key: LentKey,
        clock: Clock,
        *,
        patience_s: float = PATIENCE_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._upstream = upstream
        self._reads = reads
        self._key = key
        self._clock = clock
        self._patience_s = patience_s
        self._sleep = sleep

    async def list_orders(
        self, *, key: Secret, deadline: float, page: str | None = None, spent_bytes: int = 0
    ) -> Evidence:
        """The wait for the reserve does not count: `deadline` moves on by it."""
        began = self._clock.monotonic()
        while self._key.terms is not None:
            short = await self._reads.take_read(self._key.terms)
            if short is None:
                break
            wait_s = short.wait_ms / 1000
            if self._clock.monotonic() + wait_s > began + self._patience_s:
                again = f"the next read with {self._key.key_id} may be made in {math.ceil(wait_s)} s"
                return NotSent(reason="no_budget", detail=again)
            await self._sleep(wait_s)
        deadline += self._clock.monotonic() - began
        evidence = await self._upstream.list_orders(key=key, deadline=deadline, page=page, spent_bytes=spent_bytes)
        pause_s = asked_pause_s(evidence, wall_ms=self._clock.wall_ms())
        if pause_s is not None:
            await self._reads.pause_key(self._key.key_id, pause_s)
        return evidence
