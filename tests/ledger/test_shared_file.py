"""Several connections and processes on one file: no connection takes another one's locks away, none loses its log."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import LedgerClosed
from gateway.ledger.sqlite_engine import connect
from tests.ledger.ledger_tools import ENDED, a_ledger, claimed, end, new_order
from tests.support.needs import ROOT

OPEN_AND_CLOSE = """
import sys
from pathlib import Path
from gateway.ledger.sqlite_engine import connect
connection = connect(Path(sys.argv[1]))
connection.execute("INSERT INTO teams (name, created_ms) VALUES (?, 1)", (sys.argv[2],))
connection.close()
"""


def another_process(path: Path, name: str) -> None:
    subprocess.run([sys.executable, "-c", OPEN_AND_CLOSE, str(path), name], cwd=ROOT, check=True, timeout=60)


def locks_on(path: Path) -> list[str]:
    """This process's POSIX locks on a file, as the kernel lists them."""
    inode = path.stat().st_ino
    lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    return [line for line in lines if f" {os.getpid()} " in line and f":{inode} " in line]


def test_a_further_connection_takes_no_lock_of_the_first_away(tmp_path: Path) -> None:
    """Closing any descriptor of a file drops the process's POSIX locks on it, SQLite's among them."""
    path = tmp_path / "ledger.db"
    first = connect(path)
    first.execute("INSERT INTO teams (name, created_ms) VALUES ('x', 1)")
    assert len(locks_on(path)) == 1
    second = connect(path)
    assert len(locks_on(path)) == 1
    second.close()
    assert len(locks_on(path)) == 1
    first.close()
    assert not locks_on(path)


def test_a_command_beside_two_connections_leaves_their_write_ahead_log_alone(tmp_path: Path) -> None:
    """The last connection to a file removes its log; a process that is not the last one must know it."""
    path = tmp_path / "ledger.db"
    first = connect(path)
    first.execute("INSERT INTO teams (name, created_ms) VALUES ('before', 1)")
    second = connect(path)
    log = path.with_name("ledger.db-wal")
    inode = log.stat().st_ino
    another_process(path, "beside")
    assert log.stat().st_ino == inode
    first.execute("INSERT INTO teams (name, created_ms) VALUES ('after', 1)")
    second.close()
    first.close()
    names = connect(path).execute("SELECT name FROM teams ORDER BY name").fetchall()
    assert names == [("after",), ("before",), ("beside",)]


@pytest.mark.parametrize("name", ["ledger.db", "ledger.db-wal", "ledger.db.owner"])
def test_a_ledger_whose_files_are_gone_takes_no_more_orders(tmp_path: Path, name: str) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "ledger.db") as ledger:
            await claimed(ledger, new_order("key"))
            await ledger.beat()
            (tmp_path / name).unlink()
            with pytest.raises(LedgerClosed):
                await ledger.beat()
            assert ledger.broken.is_set()
            with pytest.raises(LedgerClosed):
                await claimed(ledger, new_order("other"))

    asyncio.run(play())


def test_a_ledger_whose_file_is_another_one_takes_no_more_orders(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "ledger.db") as ledger:
            await claimed(ledger, new_order("key"))
            await ledger.beat()
            other = tmp_path / "other.db"
            other.touch()
            other.replace(tmp_path / "ledger.db")
            with pytest.raises(LedgerClosed):
                await ledger.beat()
            with pytest.raises(LedgerClosed):
                await claimed(ledger, new_order("another"))

    asyncio.run(play())


def test_a_link_to_a_ledger_is_the_same_ledger(tmp_path: Path) -> None:
    async def play() -> None:
        link = tmp_path / "link.db"
        link.symlink_to(tmp_path / "ledger.db")
        async with a_ledger(tmp_path / "ledger.db") as ledger, a_ledger(link) as linked:
            order = await claimed(ledger)
            assert await linked.recover(tuple) == (0, 0), "its owner lives"
            await ledger.settle(order, ENDED, end("placed"))

    asyncio.run(play())
