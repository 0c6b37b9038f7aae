"""What killed writers leave behind in the write-ahead log while others go on writing it: remains, and no damage.

A writer that dies between writing a commit and announcing it leaves that commit behind the log's end. The next one
writes over its beginning, not over all of it, and the log goes on: so it gathers one commit's rest for each such death.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apsw
import pytest

from gateway.errors import StorageUnreachable
from gateway.ledger.sqlite_engine import connect
from tests.ledger.ledger_tools import a_disk

DEATHS: Final = 5
HEADER: Final = 32
FRAME_HEADER: Final = 24
FRAME: Final = FRAME_HEADER + 4096
SEED: Final = int(os.environ.get("ORDERGATE_SEED", "20261123"))
HISTORIES: Final = 100 if os.environ.get("ORDERGATE_SOAK") == "1" else 8


def write(connection: apsw.Connection, pages: int) -> None:
    """One commit of about so many frames."""
    with connection:
        connection.execute("INSERT INTO filler VALUES (zeroblob(?))", (pages * 4096,))


def die_before_announcing(path: Path, pages: int, *, after: int | None = None) -> None:
    """As a writer killed while it syncs, or after so many writes: what it wrote stays, and nobody was told of it."""
    what, number, code = (
        ("sync", 1, apsw.SQLITE_IOERR_FSYNC) if after is None else ("write", after, apsw.SQLITE_IOERR)
    )
    with a_disk() as disk:
        writer = connect(path)
        disk.arm(lambda done, _file, at: code if done == what and at >= number else 0)
        with pytest.raises(apsw.IOError):
            write(writer, pages)
        writer.close(True)


def left_by(path: Path, log: bytes | None = None) -> Path:
    """A copy as it is after the death of everybody, or with that log."""
    folder = path.with_name(f"left-{len(list(path.parent.iterdir()))}")
    folder.mkdir()
    copy = folder / path.name
    copy.write_bytes(path.read_bytes())
    (folder / f"{path.name}-wal").write_bytes(log_of(path) if log is None else log)
    return copy


def log_of(path: Path) -> bytes:
    return path.with_name(path.name + "-wal").read_bytes()


def rows_in(path: Path) -> int:
    """As a process says that starts on it."""
    connection = connect(path)
    try:
        return int(str(connection.execute("SELECT count(*) FROM filler").get))
    finally:
        connection.close()


def is_refused(path: Path, log: bytes) -> bool:
    try:
        connect(left_by(path, log)).close()
    except StorageUnreachable as fault:
        assert "cannot be read" in str(fault)
        return True
    return False


def changed(log: bytes, at: int) -> bytes:
    return log[:at] + bytes([log[at] ^ 1]) + log[at + 1 :]


def last_frames(log: bytes) -> list[int]:
    """Where in the log each frame begins that ends a commit."""
    places = range(HEADER, len(log) - FRAME + 1, FRAME)
    return [at for at in places if any(log[at + 4 : at + 8])]


def announced(alive: apsw.Connection, log: bytes) -> list[int]:
    """Those of `last_frames` that end what everybody was told of."""
    frames, _ = alive.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    return [at for at in last_frames(log) if at < HEADER + frames * FRAME]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "o.db"


@pytest.fixture
def alive(path: Path) -> Iterator[apsw.Connection]:
    """A process that goes on all the time, so that the log does, too."""
    connection = connect(path)
    connection.execute("CREATE TABLE filler (text BLOB)")
    yield connection
    connection.close(True)


def test_remains_of_many_deaths_are_no_damage(path: Path, alive: apsw.Connection) -> None:
    for death in range(DEATHS, 0, -1):  # each shorter than the one before, so that something is left of every one
        die_before_announcing(path, 10 * death)
        write(alive, 1)
    log = log_of(path)
    assert len(last_frames(log)) - len(announced(alive, log)) == DEATHS
    assert rows_in(path) == rows_in(left_by(path)) == DEATHS
    alive.close()
    assert rows_in(path) == DEATHS


def test_a_log_that_ends_inside_a_page_is_read(path: Path, alive: apsw.Connection) -> None:
    die_before_announcing(path, 10)
    write(alive, 1)
    log = log_of(path)
    for more in (100, FRAME_HEADER, FRAME_HEADER - 1, FRAME_HEADER + 1, FRAME - 1):
        assert rows_in(left_by(path, log + log[-FRAME : -FRAME + more])) == 1


def test_remains_do_not_hide_damage(path: Path, alive: apsw.Connection) -> None:
    """Commits that were announced and cannot be reached any more are told, whatever else lies behind them."""
    die_before_announcing(path, 100)
    for _ in range(6):
        write(alive, 1)
    log = log_of(path)
    assert is_refused(path, changed(log, last_frames(log)[1] + 100))


@pytest.mark.parametrize("remains", [False, True])
def test_whatever_byte_of_the_last_commit_but_one_is_damaged(
    path: Path, alive: apsw.Connection, remains: bool
) -> None:
    """It and the last one were durable; a power cut may take a part of the last one, and not of both."""
    if remains:
        die_before_announcing(path, 100)
    for _ in range(3):
        write(alive, 1)
    log = log_of(path)
    end = announced(alive, log)[-2]
    accepted = [at for at in [*range(FRAME_HEADER), 100, FRAME - 1] if not is_refused(path, changed(log, end + at))]
    assert not accepted


@pytest.mark.parametrize("history", range(HISTORIES))
def test_whatever_was_done_and_whoever_died(path: Path, alive: apsw.Connection, history: int) -> None:
    """What nobody was told of is never damage; a byte of what was is, unless it is of the last commit."""
    chance = random.Random(SEED + history)  # noqa: S311  # no secret: which history
    said = 0
    for _ in range(12):
        kind, pages = chance.choice(("write", "die", "die between")), chance.choice((1, 1, 2, 5, 20))
        if kind == "write":
            write(alive, pages)
            said += 1
        else:  # each frame is two writes
            die_before_announcing(
                path, pages, after=chance.randint(1, 2 * pages) if kind == "die between" else None
            )
    write(alive, 1)
    assert rows_in(path) == rows_in(left_by(path)) == said + 1, SEED + history
    log = log_of(path)
    for at in (chance.randrange(HEADER, announced(alive, log)[-2] + FRAME) for _ in range(5)):
        assert is_refused(path, changed(log, at)), (SEED + history, at)
