"""What killed writers leave behind in the write-ahead log while others go on writing it: remains, and no damage.

A writer that dies between writing a commit and announcing it leaves that commit behind the log's end. The next one
writes over its beginning, not over all of it, and the log goes on: so it gathers one commit's rest for each such death.
"""

from pathlib import Path
from typing import Final

import apsw
import pytest

from gateway.errors import StorageUnreachable
from gateway.ledger.sqlite_engine import connect
from tests.ledger.ledger_tools import a_disk

DEATHS: Final = 5
HEADER: Final = 32
FRAME: Final = 24 + 4096


def write(connection: apsw.Connection, kilobytes: int) -> None:
    """One commit of about so many frames as it has pages."""
    with connection:
        connection.execute("INSERT INTO filler VALUES (zeroblob(?))", (kilobytes * 1024,))


def frames(path: Path) -> int:
    return (path.with_name(path.name + "-wal").stat().st_size - HEADER) // FRAME


def die_before_announcing(path: Path, kilobytes: int) -> None:
    """As a writer that is killed while it syncs: what it wrote stays, and nobody was told of it."""
    with a_disk() as disk:
        writer = connect(path)
        disk.arm(lambda what, _file, _number: apsw.SQLITE_IOERR_FSYNC if what == "sync" else 0)
        with pytest.raises(apsw.IOError):
            write(writer, kilobytes)
        writer.close(True)


@pytest.fixture
def alive(tmp_path: Path) -> apsw.Connection:
    """A process that goes on all the time, so that the log does, too."""
    connection = connect(tmp_path / "o.db")
    connection.execute("CREATE TABLE filler (text BLOB)")
    return connection


def test_remains_of_many_deaths_are_no_damage(tmp_path: Path, alive: apsw.Connection) -> None:
    path = tmp_path / "o.db"
    for death in range(DEATHS, 0, -1):  # each shorter than the one before, so that something is left of every one
        die_before_announcing(path, 40 * death)
        write(alive, 1)
    said = alive.execute("SELECT count(*) FROM filler").get
    assert frames(path) > 10 * DEATHS
    connect(path).close()
    alive.close()
    again = connect(path)
    assert (again.execute("SELECT count(*) FROM filler").get, said) == (DEATHS, DEATHS)
    again.close()


def test_a_log_that_ends_inside_a_page_is_read(tmp_path: Path, alive: apsw.Connection) -> None:
    path = tmp_path / "o.db"
    log = path.with_name(path.name + "-wal")
    die_before_announcing(path, 40)
    write(alive, 1)
    (tmp_path / "left").mkdir()
    (tmp_path / "left/o.db").write_bytes(path.read_bytes())
    whole = log.read_bytes()
    (tmp_path / "left/o.db-wal").write_bytes(whole + whole[-FRAME : -FRAME + 100])
    connect(tmp_path / "left/o.db").close()
    alive.close()


def test_remains_do_not_hide_damage(tmp_path: Path, alive: apsw.Connection) -> None:
    """Commits that were announced and cannot be reached any more are told, whatever else lies behind them."""
    path = tmp_path / "o.db"
    log = path.with_name(path.name + "-wal")
    die_before_announcing(path, 400)
    for _ in range(6):
        write(alive, 1)
    copied = tmp_path / "left"
    copied.mkdir()
    (copied / "o.db").write_bytes(path.read_bytes())
    content = bytearray(log.read_bytes())
    alive.close()
    damaged = _frames_of_commits(content)[1] - 1
    content[HEADER + damaged * FRAME + 100] ^= 1
    (copied / "o.db-wal").write_bytes(content)
    with pytest.raises(StorageUnreachable, match="cannot be read"):
        connect(copied / "o.db")


def _frames_of_commits(log: bytes | bytearray) -> list[int]:
    """The numbers, from 1, of the frames that end a commit."""
    count = (len(log) - HEADER) // FRAME
    ends = (log[HEADER + at * FRAME + 4 : HEADER + at * FRAME + 8] for at in range(count))
    return [number for number, end in enumerate(ends, 1) if any(end)]
