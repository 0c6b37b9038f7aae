"""Logs: one line an event, JSON for machines or coloured for people, on standard error.

Only fields of the allow-list are written, so that customers' data and secrets cannot slip in by a careless call;
what is not on it is dropped and its name is noted. Values are cut at `MAX_VALUE` characters, and control characters
are escaped, so that no value can begin a line of its own. Of an exception its type and its way are written, never
its message: a message may quote whatever was being read.
"""

import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping
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
_LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

Log = structlog.typing.FilteringBoundLogger


def make_log(*, level: str, style: str, clock: Clock, stream: TextIO | None = None) -> Log:
    """A logger of its own, writing to `stream` (standard error unless given). `style`: `json` or `console`."""

    def stamp(_logger: object, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["at"] = rfc3339(clock.wall_ms())
        event["level"] = name
        return event

    to = stream or sys.stderr
    render: list[Any] = (
        [printable, structlog.dev.ConsoleRenderer(colors=to.isatty(), timestamp_key="at")]
        if style == "console"
        else [structlog.processors.JSONRenderer(ensure_ascii=True)]
    )
    log: Log = structlog.wrap_logger(
        structlog.WriteLogger(cast("TextIO", _Patient(to))),
        processors=[stamp, exception_way, only_allowed, *render],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
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
