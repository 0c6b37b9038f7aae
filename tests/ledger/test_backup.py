"""A backup is whole, of one moment, of mode 0600 and never over a file; what fails or is killed leaves nothing."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from gateway.errors import OperatorError, Refused, StorageUnreachable
from gateway.ledger.partial import partial
from gateway.ledger.sqlite_backup import back_up
from gateway.ledger.sqlite_check import check_file
from gateway.ledger.sqlite_engine import connect
from tests.ledger.ledger_tools import ENDED, a_disk, a_ledger, claimed, dump, end, new_order
from tests.support.needs import ROOT

BACK_UP = """
import sys
from pathlib import Path
from gateway.ledger.sqlite_backup import back_up
back_up(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Where backups go."""
    made = tmp_path / "shelf"
    made.mkdir()
    return made


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger with three orders, that was closed."""
    path = tmp_path / "o.db"

    async def play() -> None:
        async with a_ledger(path) as ledger:
            for number in range(3):
                claim = await claimed(ledger, new_order(f"k{number}"))
                await ledger.settle(claim, ENDED, end("placed", f"up-{number}", response=b"x" * 5000))

    asyncio.run(play())
    return path


def test_a_backup_holds_what_the_ledger_does_in_one_file_of_mode_0600(ledger: Path, shelf: Path) -> None:
    before = os.umask(0)
    try:
        made = back_up(ledger, shelf / "b.db")
    finally:
        os.umask(before)
    assert (made.orders, made.size) == (3, (shelf / "b.db").stat().st_size)
    assert stat.S_IMODE((shelf / "b.db").stat().st_mode) == 0o600
    assert dump(shelf / "b.db") == dump(ledger)
    assert check_file(shelf / "b.db") == []
    assert files(shelf) == ["b.db"]


def test_a_backup_under_load_is_of_one_moment(tmp_path: Path, shelf: Path) -> None:
    """Each write adds an order and its attempt: in every copy there are as many of the one as of the other."""
    path = tmp_path / "o.db"

    async def play() -> list[int]:
        copies: list[int] = []
        async with a_ledger(path) as ledger:

            def copy_five() -> None:
                copies.extend(back_up(path, shelf / f"{number}.db").orders for number in range(5))

            copying = threading.Thread(target=copy_five)
            copying.start()
            while copying.is_alive():
                await asyncio.gather(*(claimed(ledger) for _ in range(20)))
        return copies

    copies = asyncio.run(play())
    for number, orders in enumerate(copies):
        copy = shelf / f"{number}.db"
        assert check_file(copy) == []
        assert (len(dump(copy, "orders")), len(dump(copy, "attempts"))) == (orders, orders)
    assert len(copies) == 5 and copies == sorted(copies) and copies[0] < copies[-1]


def test_nothing_is_written_over(ledger: Path, shelf: Path) -> None:
    (shelf / "file").write_text("mine")
    (shelf / "link").symlink_to(shelf / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(Refused, match="there already"):
            back_up(ledger, shelf / name)
    assert (shelf / "file").read_text() == "mine"
    assert files(shelf) == ["file", "link"]


def test_a_file_that_appears_meanwhile_is_kept(ledger: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def slower(source: Path, target: Path) -> None:
        target.write_text("theirs")
        link(source, target)

    monkeypatch.setattr(os, "link", slower)
    with pytest.raises(Refused, match="meanwhile"):
        back_up(ledger, shelf / "b.db")
    assert ((shelf / "b.db").read_text(), files(shelf)) == ("theirs", ["b.db"])


def test_where_files_cannot_be_linked_a_backup_is_made_all_the_same(
    ledger: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(_source: Path, _target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", cannot)
    assert back_up(ledger, shelf / "b.db").orders == 3
    assert files(shelf) == ["b.db"]


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [(apsw.SQLITE_FULL, OperatorError, "disk is full"), (apsw.SQLITE_IOERR_WRITE, StorageUnreachable, "IOError")],
)
def test_a_disk_that_fails_is_one_clear_line_and_leaves_nothing(
    ledger: Path, shelf: Path, code: int, kind: type[OperatorError], says: str
) -> None:
    target = shelf / "b.db"
    with a_disk() as disk:
        disk.arm(lambda what, file, _: code if (what, "partial" in file) == ("write", True) else 0)
        with pytest.raises(kind, match=says) as caught:
            back_up(ledger, target)
    assert "\n" not in str(caught.value) and str(target) in str(caught.value)
    assert caught.value.exit_code in (1, 5)
    assert files(shelf) == []


def test_a_folder_that_is_not_there_is_one_clear_line(ledger: Path, shelf: Path) -> None:
    with pytest.raises(StorageUnreachable, match="No such file"):
        back_up(ledger, shelf / "deeper" / "b.db")


def test_a_damaged_ledger_is_not_backed_up(ledger: Path, shelf: Path) -> None:
    connection = apsw.Connection(str(ledger))
    connection.pragma("writable_schema", 1)
    connection.execute("UPDATE sqlite_schema SET rootpage = 3 WHERE name = 'orders_by_body'")
    connection.close()
    with pytest.raises(OperatorError, match="ordergate db check"):
        back_up(ledger, shelf / "b.db")
    assert files(shelf) == []


def a_large_ledger(path: Path) -> None:
    connection = connect(path)
    connection.execute("INSERT INTO meta (name, value) VALUES ('filler', zeroblob(100000000))")
    connection.close()


def killed_while(holds: Callable[[], bool], *arguments: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", BACK_UP, *map(str, arguments)], cwd=ROOT)
    while not holds():
        assert process.poll() is None, "it was too fast to be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_backup_leaves_no_file_of_that_name_and_the_next_one_clears_up(
    tmp_path: Path, shelf: Path
) -> None:
    path = tmp_path / "o.db"
    a_large_ledger(path)
    left = shelf / ".b.db.ordergate-partial"
    killed_while(lambda: left.exists() and left.stat().st_size > 1_000_000, path, shelf / "b.db")
    assert files(shelf) == [left.name]
    back_up(path, shelf / "other.db")
    assert files(shelf) == ["other.db"]
    assert check_file(shelf / "other.db") == []


def test_two_backups_to_one_file_at_once_are_one(ledger: Path, shelf: Path) -> None:
    with partial(shelf / "b.db"):
        with pytest.raises(Refused, match="another command"):
            back_up(ledger, shelf / "b.db")
        back_up(ledger, shelf / "c.db")
    assert files(shelf) == ["c.db"]
