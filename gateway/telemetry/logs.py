"""Logs: one line an event, JSON for machines or coloured for people, on standard error.

Only fields of the allow-list are written, so that customers' data and secrets cannot slip in by a careless call;
what is not on it is dropped and its name is noted. Values are cut at `MAX_VALUE` characters, and control characters
are escaped, so that no value can begin a line of its own. Of an exception its type and its way are written, never
its message: a message may quote whatever was being read. No order waits for whoever reads the lines.
"""

import atexit
import logging
import os
import queue
import sys
import threading
import traceback
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final, TextIO, cast

import structlog

from gateway.clock import Clock, rfc3339

FIELDS: Final = frozenset({
    "event", "level", "at", "version", "listener", "method", "route", "status", "seconds", "request_id", "trace_id",
    "order_id", "tenant", "team", "outcome", "cause", "evidence", "reason", "upstream_s", "waited_s", "key_id",
    "upstream_order_id", "attempts", "host", "port", "count", "path", "exit_code", "signal", "where", "error",
    "exception", "setting", "settings", "url",
})  # fmt: skip
MAX_VALUE: Final = 4_096

MAX_WAITING: Final = 10_000
"""Lines, some 3 MB: a few seconds of a busy gateway, for as long as whoever reads them is slow."""

FINISH_WITHIN_S: Final = 1.0
"""At the end of the process."""

_LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

Log = structlog.typing.FilteringBoundLogger


class Threshold:
    """The least that is written; it may change while the log is used."""

    def __init__(self, level: str) -> None:
        self._least = _LEVELS[level]

    def change(self, level: str) -> None:
        self._least = _LEVELS[level]

    def __call__(self, _logger: object, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if _LEVELS.get(name, _LEVELS["error"]) < self._least:
            raise structlog.DropEvent
        return event


def make_log(*, level: str | Threshold, style: str, clock: Clock, stream: TextIO | None = None) -> Log:
    """A logger of its own, writing to `stream` (standard error unless given). `style`: `json` or `console`."""
    threshold = level if isinstance(level, Threshold) else Threshold(level)

    def stamp(_logger: object, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["at"] = rfc3339(clock.wall_ms())
        event["level"] = name
        return event

    to = stream or sys.stderr
    out = _Patient(to) if stream else _beside(sys.stderr)
    render: list[Any] = (
        [printable, structlog.dev.ConsoleRenderer(colors=to.isatty(), timestamp_key="at")]
        if style == "console"
        else [structlog.processors.JSONRenderer(ensure_ascii=True)]
    )
    log: Log = structlog.wrap_logger(
        structlog.WriteLogger(cast("TextIO", out)),
        processors=[threshold, stamp, exception_way, only_allowed, *render],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS["debug"]),
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    # Libraries log through the standard library: their warnings matter, what they say below that may hold anything.
    logging.basicConfig(handlers=[_Foreign(log)], level=logging.WARNING, force=True)
    return log


def only_allowed(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drops what is not on the list, and cuts what is too long."""
    dropped = sorted(name for name in event if name not in FIELDS)
    allowed = {name: _cut(value) for name, value in event.items() if name in FIELDS}
    if dropped:
        allowed["dropped"] = ", ".join(dropped)[:MAX_VALUE]
    return allowed


def printable(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For terminals, whose renderer writes an event's text as it is: what is no printable character is escaped."""
    return {name: _escaped(value) if isinstance(value, str) else value for name, value in event.items()}


def _escaped(text: str) -> str:
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def exception_way(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """With `exc_info=True`: the current exception's type and the lines that it came through."""
    if event.pop("exc_info", None):
        kind, _, frames = sys.exc_info()
        way = [
            f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(frames)
        ]
        event["exception"] = f"{kind.__name__ if kind else '?'}: {' > '.join(way)}"
    return event


def _cut(value: Any) -> Any:
    return value[:MAX_VALUE] if isinstance(value, str) else value


class _Patient:
    """A stream whose failure is nobody's: a closed pipe or a full log disk must not touch an order."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except (OSError, ValueError):
            return

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return


class _Beside:
    """A file descriptor that is written to from a thread of its own: a pipe that nobody reads holds up no order.

    Past `MAX_WAITING` lines that wait, further ones are lost; how many is said when there is room again.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[str] = queue.Queue(MAX_WAITING)
        self._lost = 0
        # A daemon: at the end of the process a pipe that is still blocked must not keep it.
        threading.Thread(target=self._serve, name="log-writer", daemon=True).start()
        atexit.register(self.finish)

    def write(self, text: str) -> None:
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self._lost += 1

    def flush(self) -> None:
        """What structlog asks for after each line. The thread needs no telling."""

    def finish(self) -> None:
        """Waits, `FINISH_WITHIN_S` at most, for what was written so far."""
        with self._lines.all_tasks_done:
            self._lines.all_tasks_done.wait_for(lambda: not self._lines.unfinished_tasks, FINISH_WITHIN_S)

    def _serve(self) -> None:
        while True:
            self._write_out(self._lines.get())
            lost, self._lost = self._lost, 0
            if lost:
                self._write_out(f'{{"event": "log_lines_lost", "count": {lost}, "level": "warning"}}\n')
            self._lines.task_done()

    def _write_out(self, text: str) -> None:
        """Not through the stream: its lock, held by a thread that hangs, would make the process's end a crash."""
        data = text.encode("utf-8", "backslashreplace")
        with suppress(OSError):
            while data:
                data = data[os.write(self._descriptor, data) :]


def _beside(stream: TextIO) -> "_Beside | _Patient":
    try:
        return _Beside(stream.fileno())
    except (OSError, ValueError):  # no file: what a test put in its place
        return _Patient(stream)


class _Foreign(logging.Handler):
    """The standard library's records as events of ours: who says it, and the first line of its fixed words.

    What it fills in, and what asyncio appends below, quotes exceptions and may hold anything.
    """

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        about = {"exception": kind.__name__} if kind else {}
        self._log.warning("library", where=record.name, error=str(record.msg).partition("\n")[0], **about)
