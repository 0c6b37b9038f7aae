"""Settings that change while the gateway runs: read anew at SIGHUP, and when their file has changed.

A file that is bad, or gone, changes nothing: the settings before go on, and a line in the log and a metric say so. A
file that somebody is writing is left alone until it has stayed as it is for one look.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from gateway.clock import Clock
from gateway.errors import BadSettings
from gateway.settings import Settings, changes, reloaded
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics

LOOK_EVERY_S: Final = 0.5

Stamp = tuple[int, int, int]
"""Of a file: when it was changed, its size, and which one it is."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where the settings come from. `load` reads file and environment; it raises BadSettings."""

    file: Path
    load: Callable[[], Settings]


class Live:
    """The settings of now, and whoever follows them. Belongs to one event loop.

    `asked` is set where they are to be read anew at once. What only a restart can change stays as it was.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.asked = asyncio.Event()
        self._followers: list[Callable[[Settings], None]] = []

    def follow(self, apply: Callable[[Settings], None]) -> None:
        """`apply` is called with each of the settings that come; not with those of now."""
        self._followers.append(apply)

    def change(self, settings: Settings) -> None:
        self.settings = reloaded(self.settings, settings)
        for apply in self._followers:
            apply(self.settings)


class Reloader:
    """Runs beside the orders."""

    def __init__(self, *, live: Live, source: Source, clock: Clock, metrics: Metrics, log: Log) -> None:
        self._live = live
        self._source = source
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._read = self._seen = _stamp(source.file)
        self._was_there = self._read is not None
        metrics.settings_read(clock.wall_ms())

    async def run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._live.asked.wait()
            now = await asyncio.to_thread(_stamp, self._source.file)
            stays, self._seen = now == self._seen, now
            if self._live.asked.is_set() or (stays and now != self._read):
                self._live.asked.clear()
                self._read = now
                await self._reload()

    async def _reload(self) -> None:
        try:
            new = await asyncio.to_thread(self._load)
        except BadSettings as fault:
            self._metrics.settings_refused()
            self._log.error("reload", reason="the settings before go on", error=str(fault))
            return
        differing = changes(self._live.settings, new)
        if differing.needs_restart:
            self._log.warning(
                "reload", reason="only a restart changes these", settings=", ".join(differing.needs_restart)
            )
        if differing.reloadable:
            self._live.change(new)
        self._metrics.settings_read(self._clock.wall_ms(), again=True)
        self._log.info("reload", count=len(differing.reloadable), settings=", ".join(differing.reloadable))

    def _load(self) -> Settings:
        """A file that was there and is gone would be the defaults, where nobody has named it."""
        there = self._source.file.exists()
        if self._was_there and not there:
            raise BadSettings(f"{self._source.file}: is not there")
        self._was_there = there
        return self._source.load()


def _stamp(file: Path) -> Stamp | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
