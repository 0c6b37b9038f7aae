"""Logs: one line an event, nothing that is not on the list, and no harm from what they are written to."""

import fcntl
import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.broker.vault import Secret
from gateway.telemetry.logs import FIELDS, MAX_VALUE, Log, Threshold, make_log


class At:
    """A clock that stands still."""

    def wall_ms(self) -> int:
        return 1_767_323_045_678

    def monotonic(self) -> float:
        return 0.0

    def random_bytes(self, count: int) -> bytes:
        return bytes(count)


@pytest.fixture(autouse=True)
def _the_librarys_handlers() -> Iterator[None]:
    """Making a log takes over the standard library's: afterwards they are as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def _log(style: str = "json", level: str = "info") -> tuple[Log, io.StringIO]:
    stream = io.StringIO()
    return make_log(level=level, style=style, clock=At(), stream=stream), stream


def _events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json() -> None:
    log, stream = _log()
    log.info("ready", version="1", count=3)
    assert _events(stream) == [
        {"event": "ready", "level": "info", "at": "2026-01-02T03:04:05.678Z", "version": "1", "count": 3}
    ]


@pytest.mark.parametrize("style", ["json", "console"])
def test_what_is_not_on_the_list_is_dropped_and_named(style: str) -> None:
    log, stream = _log(style)
    log.info("order", body="canary-1", token="canary-2", password="canary-3", error="what went wrong")
    assert "canary" not in stream.getvalue()
    assert "body, password, token" in stream.getvalue()
    assert "what went wrong" in stream.getvalue()


@pytest.mark.parametrize("style", ["json", "console"])
def test_secrets_that_slip_into_an_allowed_field_are_masked(style: str) -> None:
    log, stream = _log(style)
    log.info("order", error=Secret("canary"), path=[Secret("canary")], settings={"key": Secret("canary")})
    assert "canary" not in stream.getvalue() and "***" in stream.getvalue()


MARKS = [chr(code) for code in (*range(0x20), 0x7F, *range(0x80, 0xA0), 0x2028, 0x2029, 0x202E, 0xFEFF, 0xD800)]


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("mark", MARKS, ids=ascii)
def test_control_characters_begin_no_line_and_steer_no_terminal(style: str, mark: str) -> None:
    log, stream = _log(style)
    event = f"ev{mark}ent"
    log.info(event, error=f"a{mark}b", path=[f"c{mark}d"])
    text = stream.getvalue()
    assert text.endswith("\n") and text.count("\n") == 1
    assert mark not in text[:-1]
    if style == "json":
        (found,) = _events(stream)
        assert (found["event"], found["error"], found["path"]) == (event, f"a{mark}b", [f"c{mark}d"])


@given(
    st.text(),
    st.dictionaries(st.sampled_from(sorted(FIELDS - {"event", "level", "at", "exception"})), st.text(), max_size=4),
)
def test_any_texts_make_one_line(event: str, fields: dict[str, str]) -> None:
    for style in ("json", "console"):
        log, stream = _log(style)
        log.info(event, **fields)
        assert len(stream.getvalue().splitlines()) == 1
        assert stream.getvalue().endswith("\n")


def test_long_values_are_cut() -> None:
    log, stream = _log()
    log.info("x" * 10_000, error="y" * 10_000)
    (event,) = _events(stream)
    assert len(event["event"]) == len(event["error"]) == MAX_VALUE


@pytest.mark.parametrize("value", [float("inf"), b"bytes", {1, 2}, object(), None, 10**30, ("a", 1)])
def test_any_value_is_written_somehow(value: object) -> None:
    log, stream = _log()
    log.info("event", error=value)
    assert stream.getvalue().count("\n") == 1


def test_of_an_exception_its_type_and_way_are_written_and_never_its_message() -> None:
    log, stream = _log()
    try:
        raise ValueError("canary of a customer")
    except ValueError:
        log.exception("defect", where="here")
    (event,) = _events(stream)
    assert event["exception"].startswith("ValueError: test_logs.py:")
    assert "test_of_an_exception" in event["exception"]
    assert "canary" not in stream.getvalue()
    log.exception("no exception at all")  # noqa: LOG004 - a careless call is what is tried
    assert _events(stream)[1]["exception"].startswith("?")


def test_below_its_level_nothing_is_written() -> None:
    log, stream = _log(level="warning")
    log.debug("no")
    log.info("no")
    log.warning("yes")
    assert [event["event"] for event in _events(stream)] == ["yes"]


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        raise BrokenPipeError


def test_a_stream_that_is_closed_or_full_is_nobodys_fault() -> None:
    log, stream = _log()
    stream.close()
    log.info("event")
    logging.getLogger("library").warning("message")
    log = make_log(level="info", style="console", clock=At(), stream=Full())
    log.error("event", error="x")


def test_libraries_warnings_come_along_and_their_chatter_does_not() -> None:
    _, stream = _log()
    library = logging.getLogger("some.library")
    library.info("chatter")
    library.warning("plain words")
    assert _events(stream) == [
        {
            "event": "library", "level": "warning", "at": "2026-01-02T03:04:05.678Z", "where": "some.library",
            "error": "plain words",
        }
    ]  # fmt: skip


def test_what_a_library_quotes_is_not_written() -> None:
    _, stream = _log()
    logging.getLogger("library").warning("cannot read %r\nof %s", "canary", "canary")
    assert _events(stream)[0]["error"] == "cannot read %r"
    assert "canary" not in stream.getvalue()


def test_a_librarys_slip_in_formatting_does_not_come_back_to_it() -> None:
    _, stream = _log()
    logging.getLogger("library").warning("%d things", "no number")
    assert _events(stream)[0]["error"] == "%d things"


def test_a_pipe_that_nobody_reads_holds_up_nobody_and_what_was_lost_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.telemetry.logs.MAX_WAITING", 10)
    reading, writing = os.pipe()
    size = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    assert os.write(writing, b"." * size) == size
    with open(writing, "w", encoding="utf-8") as pipe:  # noqa: PTH123  # it has no path
        monkeypatch.setattr(sys, "stderr", pipe)
        log = make_log(level="info", style="json", clock=At())
        for number in range(100):
            log.info("listening", count=number)
        with open(reading, encoding="utf-8") as lines:  # noqa: PTH123  # as above
            assert lines.read(size) == "." * size
            kept: list[int] = []
            lost = 0
            while len(kept) + lost < 100:
                line = json.loads(lines.readline())
                if line["event"] == "log_lines_lost":
                    lost += line["count"]
                else:
                    kept.append(line["count"])
    assert kept == sorted(kept)
    assert lost > 50


def test_the_least_that_is_written_may_change() -> None:
    threshold, stream = Threshold("info"), io.StringIO()
    log = make_log(level=threshold, style="json", clock=At(), stream=stream)
    for level in ("info", "error", "debug"):
        threshold.change(level)
        log.debug("one", reason=level)
        log.info("two", reason=level)
        log.error("three", reason=level)
    said = [(line["event"], line["reason"]) for line in map(json.loads, stream.getvalue().splitlines())]
    assert said == [
        ("two", "info"), ("three", "info"), ("three", "error"), ("one", "debug"), ("two", "debug"), ("three", "debug"),
    ]  # fmt: skip
