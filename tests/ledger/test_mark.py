"""A ledger that is behind its mark is known as old, whatever brought it there, and stays so until a rejoin."""

import asyncio
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from gateway.errors import LedgerClosed, LedgerError, StorageUnreachable
from gateway.ledger.mark import (
    Mark,
    Quarantine,
    beat,
    end_quarantine,
    examine,
    keep_mark,
    last_beat,
    mark_path,
    quarantine_of,
    read_mark,
)
from gateway.ledger.sqlite_engine import connect, transaction
from tests.ledger.ledger_tools import a_ledger, alter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "o.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[apsw.Connection]:
    connection = connect(path)
    yield connection
    connection.close()


def beats(connection: apsw.Connection, count: int) -> int:
    for _ in range(count):
        with transaction(connection):
            number = beat(connection)
    return number


def looked_at(
    connection: apsw.Connection, path: Path, *, tick: int = 77, ledger_id: str = "mine"
) -> Quarantine | None:
    with transaction(connection):
        return examine(connection, path, ledger_id, tick)


def test_beats_only_grow(ledger: apsw.Connection) -> None:
    assert last_beat(ledger) == 0
    assert [beats(ledger, 1) for _ in range(3)] == [1, 2, 3]
    assert last_beat(ledger) == 3


def test_a_mark_is_read_as_it_was_kept_with_mode_0600(path: Path) -> None:
    assert read_mark(path) is None
    before = os.umask(0)
    try:
        keep_mark(path, Mark(ledger="mine", beat=5))
    finally:
        os.umask(before)
    assert read_mark(path) == Mark(ledger="mine", beat=5)
    assert stat.S_IMODE(mark_path(path).stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["o.db.mark"]


def test_a_mark_never_goes_back_but_to_another_ledger(path: Path) -> None:
    for beat_number, kept in ((5, 5), (4, 5), (6, 6)):
        keep_mark(path, Mark(ledger="mine", beat=beat_number))
        assert read_mark(path) == Mark(ledger="mine", beat=kept)
    keep_mark(path, Mark(ledger="theirs", beat=1))
    assert read_mark(path) == Mark(ledger="theirs", beat=1)


def test_many_writers_leave_a_whole_mark(path: Path) -> None:
    def write(start: int) -> None:
        for number in range(start, 200, 4):
            keep_mark(path, Mark(ledger="mine", beat=number))

    threads = [threading.Thread(target=write, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = read_mark(path)
        assert found is None or found.ledger == "mine"
    for thread in threads:
        thread.join()
    assert [file.name for file in path.parent.iterdir()] == ["o.db.mark"]


def test_a_mark_that_cannot_be_written_is_a_ledgers_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be written"):
        keep_mark(tmp_path / "nowhere" / "o.db", Mark(ledger="mine", beat=1))
    mark_path(tmp_path / "o.db").mkdir()
    with pytest.raises(StorageUnreachable, match="Is a directory"):
        read_mark(tmp_path / "o.db")


def test_each_durable_beat_is_marked(path: Path) -> None:
    async def play() -> None:
        async with a_ledger(path) as ledger:
            for _again in range(3):
                await ledger.beat()
                connection = connect(path)
                reached = last_beat(connection)
                connection.close()
                mark = read_mark(path)
                assert mark is not None and mark.beat == reached > 0

    asyncio.run(play())


def test_a_beat_that_was_there_before_ends_the_trust(path: Path) -> None:
    """An older file in the place of the open one, whatever it is called by the file system."""

    async def play() -> None:
        async with a_ledger(path) as ledger:
            await ledger.beat()
            alter(path, "UPDATE meta SET value = 0 WHERE name = 'beat'")
            with pytest.raises(LedgerClosed):
                await ledger.beat()
            assert ledger.broken.is_set() and not ledger.owns()

    asyncio.run(play())


def test_a_ledger_at_or_ahead_of_its_mark_is_not_quarantined(ledger: apsw.Connection, path: Path) -> None:
    assert looked_at(ledger, path) is None, "no mark"
    beats(ledger, 3)
    for number in (1, 2, 3):
        keep_mark(path, Mark(ledger="mine", beat=number))
        assert looked_at(ledger, path) is None
    assert quarantine_of(ledger) is None


def test_a_ledger_behind_its_mark_is_quarantined_for_good(ledger: apsw.Connection, path: Path) -> None:
    beats(ledger, 3)
    keep_mark(path, Mark(ledger="mine", beat=4))
    expected = Quarantine(reason="older", since_tick=77)
    assert looked_at(ledger, path) == expected
    assert last_beat(ledger) == 4, "known to be old once is not found out again"
    assert looked_at(ledger, path, tick=99) == expected
    mark_path(path).unlink()
    assert looked_at(ledger, path, tick=99) == expected
    again = connect(path)
    assert quarantine_of(again) == expected
    again.close()
    with transaction(ledger):
        end_quarantine(ledger)
    assert looked_at(ledger, path) is None


def test_a_ledger_that_falls_behind_again_waits_again(ledger: apsw.Connection, path: Path) -> None:
    beats(ledger, 3)
    keep_mark(path, Mark(ledger="mine", beat=4))
    looked_at(ledger, path, tick=1)
    keep_mark(path, Mark(ledger="mine", beat=9))
    assert looked_at(ledger, path, tick=50) == Quarantine(reason="older", since_tick=50)


@pytest.mark.parametrize("content", [b'{"ledger":"theirs","beat":1}', b"", b"\xff\x00", b'{"beat":1}', b"[]"])
def test_a_mark_of_another_ledger_or_of_none_is_quarantined(
    ledger: apsw.Connection, path: Path, content: bytes
) -> None:
    beats(ledger, 3)
    mark_path(path).write_bytes(content)
    assert looked_at(ledger, path) == Quarantine(reason="another", since_tick=77)


def test_a_link_to_a_ledger_has_the_same_mark(tmp_path: Path, path: Path) -> None:
    path.touch()
    (tmp_path / "link.db").symlink_to(path)
    assert mark_path(tmp_path / "link.db") == mark_path(path)
