"""A ledger that is behind its mark is known as old, whatever brought it there, and stays so until a rejoin."""

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from gateway.errors import LedgerError, StorageUnreachable
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
