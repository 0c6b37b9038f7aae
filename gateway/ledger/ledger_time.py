"""The ledger's own time: milliseconds that only move forward, for keys that expire and windows that close.

A wall clock steps; a monotonic clock starts anew with each boot. So the ledger keeps one *anchor*: in which boot, at
which monotonic instant, which tick it was. Within that boot every process reads the same tick off the monotonic clock,
without a write. After a reboot the time goes on from the last anchor: the time in between does not count, and a key
lives a little longer, never shorter.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import apsw
import msgspec

from gateway.clock import Clock
from gateway.errors import StorageUnreachable

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_READ: Final = "SELECT value FROM meta WHERE name = 'ledger_time'"
_WRITE: Final = """
INSERT INTO meta (name, value) VALUES ('ledger_time', ?1) ON CONFLICT DO UPDATE SET value = ?1
"""


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """`tick` was the ledger's time at `monotonic_ms` of the boot `boot`."""

    boot: str
    monotonic_ms: int
    tick: int


def this_boot() -> str:
    """The kernel's id of this boot; empty where it has none, and then each process counts as a boot of its own."""
    with suppress(OSError):
        return _BOOT_ID.read_text(encoding="ascii").strip()
    return ""


class LedgerTime:
    """Reads ticks. Made in a write transaction, so that of several processes one sets the anchor after a reboot."""

    def __init__(self, connection: apsw.Connection, clock: Clock, boot: Callable[[], str] = this_boot) -> None:
        self._clock = clock
        self._boot = boot()
        self._base = self._continued(self._stored(connection))
        self.keep(connection)

    def tick(self) -> int:
        """Milliseconds since the ledger was made, as far as a process was there to count them."""
        return self._base.tick + self._now_ms() - self._base.monotonic_ms

    def keep(self, connection: apsw.Connection) -> None:
        """Writes how far it is, inside the caller's transaction: what a reboot can take away is the time since."""
        now = Anchor(boot=self._boot, monotonic_ms=self._now_ms(), tick=self.tick())
        connection.execute(_WRITE, (msgspec.json.encode(now).decode(),))

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1000)

    def _continued(self, stored: Anchor | None) -> Anchor:
        here = self._now_ms()
        if stored is None:
            return Anchor(boot=self._boot, monotonic_ms=here, tick=0)
        if self._boot and stored.boot == self._boot and stored.monotonic_ms <= here:
            return stored
        return Anchor(boot=self._boot, monotonic_ms=here, tick=stored.tick)

    @staticmethod
    def _stored(connection: apsw.Connection) -> Anchor | None:
        row = connection.execute(_READ).fetchone()
        try:
            return None if row is None else msgspec.json.decode(str(row[0]), type=Anchor)
        except msgspec.DecodeError as fault:
            raise StorageUnreachable("the ledger's time is damaged; see `ordergate db check`") from fault
