"""A backup takes the ledger's place at once or not at all, only when it is one, and never in silence."""

import asyncio
import fcntl
import os
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from gateway.broker.vault import Vault
from gateway.errors import BadSettings, OperatorError, Refused, StorageUnreachable
from gateway.ledger.mark import Mark, keep_mark, last_beat, quarantine_of
from gateway.ledger.sqlite_backup import back_up
from gateway.ledger.sqlite_check import check_file
from gateway.ledger.sqlite_engine import connect
from gateway.ledger.sqlite_restore import Restored, restore
from tests.ledger.ledger_tools import CLOCK, ENDED, VAULT, a_disk, a_ledger, alter, claimed, dump, end, new_order
from tests.support.needs import ROOT

RESTORE = """
import sys
from pathlib import Path
from gateway.broker.vault import MasterKey, Vault
from gateway.clock import SystemClock
from gateway.ledger.sqlite_restore import restore
VAULT = Vault(MasterKey(bytes(32)), SystemClock())
restore(Path(sys.argv[1]), Path(sys.argv[2]), lambda _: VAULT, SystemClock(), who="ops")
"""


def any_key(_copy: apsw.Connection) -> Vault:
    return VAULT


def put_back(path: Path, backup: Path) -> Restored:
    return restore(path, backup, any_key, CLOCK, who="ops")


def place(path: Path, *keys: str) -> None:
    async def play() -> None:
        async with a_ledger(path) as ledger:
            for key in keys:
                await ledger.settle(await claimed(ledger, new_order(key)), ENDED, end("placed", f"up-{key}"))

    connect(path).close()
    asyncio.run(play())


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"o.db.owner", "o.db-wal", "o.db-shm"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with two orders, in a folder of its own."""
    path = tmp_path / "var" / "o.db"
    place(path, "a", "b")
    return path


@pytest.fixture
def backup(path: Path, tmp_path: Path) -> Path:
    """A backup of it; then a third order was placed."""
    file = tmp_path / "b.db"
    back_up(path, file)
    place(path, "c")
    return file


def test_a_restored_ledger_is_the_backup_in_quarantine_and_the_old_one_is_kept(path: Path, backup: Path) -> None:
    before, content = dump(path), backup.read_bytes()
    keep_mark(path, Mark(ledger="mine", beat=1_000))
    done = put_back(path, backup)
    assert (done.ledger, done.orders) == (path, 2)
    assert dump(path) == dump(backup) and backup.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert done.replaced is not None and done.replaced.name.startswith("o.db.replaced-2")
    assert dump(done.replaced) == before and check_file(done.replaced) == []
    assert files(path.parent) == {"o.db", "o.db.mark", done.replaced.name}
    assert files(backup.parent) == {"b.db", "var"}
    connection = connect(path)
    found = quarantine_of(connection)
    assert found is not None and found.reason == "restored" and found.since_tick is not None
    assert last_beat(connection) == 1_000
    assert connection.execute("SELECT who, action, subject, change FROM audit").fetchall() == [
        ("ops", "db restore", "ledger", '{"backup":"b.db"}')
    ]
    connection.close()


def test_a_backup_is_in_quarantine_by_itself(backup: Path) -> None:
    connection = connect(backup)
    found = quarantine_of(connection)
    connection.close()
    assert found is not None and (found.reason, found.since_tick) == ("restored", None)


def test_a_ledger_is_restored_where_there_is_none(backup: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "o.db"
    done = put_back(path, backup)
    assert (done.replaced, done.orders) == (None, 2)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert check_file(path) == []


def test_the_log_of_a_ledger_that_was_removed_is_not_read_into_the_new_one(path: Path, backup: Path) -> None:
    keeper = connect(path)
    keeper.execute("INSERT INTO teams (name, created_ms) VALUES ('x', 1)")
    log = path.with_name("o.db-wal")
    content = log.read_bytes()
    keeper.close()
    path.unlink()
    log.write_bytes(content)
    put_back(path, backup)
    assert check_file(path) == [] and dump(path) == dump(backup)
    assert dump(path, "teams") == [], "what was in the log"


def lock(path: Path, epoch: int) -> int:
    held = os.open(path.with_name(path.name + ".owner"), os.O_RDWR | os.O_CREAT, 0o600)
    wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, epoch, 1, 0)
    fcntl.fcntl(held, fcntl.F_OFD_SETLK, wanted)
    return held


@pytest.mark.parametrize("epoch", [1, 7, 1 << 40])
def test_while_a_process_lives_on_the_ledger_nothing_is_restored(path: Path, backup: Path, epoch: int) -> None:
    before = dump(path)
    held = lock(path, epoch)
    with pytest.raises(Refused, match="stop it first"):
        put_back(path, backup)
    assert dump(path) == before and files(path.parent) == {"o.db"}
    os.close(held)
    put_back(path, backup)


def test_no_process_begins_while_a_ledger_is_restored(path: Path, backup: Path) -> None:
    def no_epoch_is_free(_copy: apsw.Connection) -> Vault:
        with pytest.raises(BlockingIOError):
            lock(path, 3)
        return VAULT

    restore(path, backup, no_epoch_is_free, CLOCK, who="ops")


def test_while_a_command_has_the_ledger_open_nothing_is_restored(
    path: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dump(path)
    other = connect(path)
    with pytest.raises(Refused, match="another command"):
        put_back(path, backup)
    assert dump(path) == before and files(path.parent) == {"o.db"}
    other.execute("INSERT INTO teams (name, created_ms) VALUES ('still', 1)")
    other.close()
    assert put_back(path, backup).replaced is not None


def _noise(backup: Path) -> None:
    backup.write_bytes(b"this is no database" * 1000)


def _cut(backup: Path) -> None:
    backup.write_bytes(backup.read_bytes()[:-4096])


def _foreign(backup: Path) -> None:
    alter(backup, "PRAGMA application_id = 1")


def _newer(backup: Path) -> None:
    alter(backup, "PRAGMA user_version = 99")


def _gone(backup: Path) -> None:
    backup.unlink()


def _empty(backup: Path) -> None:
    backup.write_bytes(b"")


def _dangling(backup: Path) -> None:
    alter(
        backup,
        """PRAGMA foreign_keys = OFF; UPDATE attempts SET order_id = 'x'
           WHERE order_id = (SELECT min(order_id) FROM orders)""",
    )


@pytest.mark.parametrize("spoil", [_noise, _cut, _foreign, _newer, _gone, _empty, _dangling])
def test_what_is_no_whole_ledger_is_refused_and_nothing_changes(
    path: Path, backup: Path, spoil: Callable[[Path], None]
) -> None:
    before = dump(path)
    spoil(backup)
    with pytest.raises(Refused) as caught:
        put_back(path, backup)
    assert str(backup) in str(caught.value) and "\n" not in str(caught.value)
    assert dump(path) == before and files(path.parent) == {"o.db"}


def test_another_master_keys_backup_is_refused(path: Path, backup: Path) -> None:
    def mine_only(copy: apsw.Connection) -> Vault:
        assert copy.execute("SELECT count(*) FROM orders").get == 2
        raise BadSettings("another master key")

    before = dump(path)
    with pytest.raises(BadSettings):
        restore(path, backup, mine_only, CLOCK, who="ops")
    assert dump(path) == before and files(path.parent) == {"o.db"}


def test_the_ledger_is_no_backup_of_itself(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(path)
    for name in (path, tmp_path / "link.db"):
        with pytest.raises(Refused, match="the ledger itself"):
            put_back(path, name)


def test_a_copy_made_by_hand_with_its_log_is_restored_whole(path: Path, tmp_path: Path) -> None:
    keeper = connect(path)
    keeper.execute("INSERT INTO teams (name, created_ms) VALUES ('in the log', 1)")
    for ending in ("", "-wal"):
        (tmp_path / f"copy.db{ending}").write_bytes(path.with_name("o.db" + ending).read_bytes())
    keeper.close()
    put_back(path, tmp_path / "copy.db")
    assert "in the log" in str(dump(path, "teams"))


def test_an_older_schema_is_migrated_on_the_way(path: Path, backup: Path) -> None:
    connection = apsw.Connection(str(backup))
    found = connection.pragma("user_version")
    connection.close()
    assert found > 1
    put_back(path, backup)
    connection = connect(path)
    assert connection.pragma("user_version") == found
    connection.close()


def test_a_damaged_ledger_is_replaced_and_kept_as_it_is_with_its_log(path: Path, backup: Path) -> None:
    keeper = connect(path)
    keeper.execute("INSERT INTO teams (name, created_ms) VALUES ('x', 1)")
    log = path.with_name("o.db-wal").read_bytes()
    keeper.close()
    damaged = b"\x00\xffno database any more" * 1000
    path.write_bytes(damaged)
    path.with_name("o.db-wal").write_bytes(log)
    done = put_back(path, backup)
    assert done.replaced is not None
    assert done.replaced.read_bytes() == damaged
    assert done.replaced.with_name(done.replaced.name + "-wal").read_bytes() == log
    assert check_file(path) == [] and dump(path) == dump(backup)


def test_a_log_with_a_gap_is_kept_with_the_ledger_it_belongs_to(path: Path, backup: Path) -> None:
    """What SQLite cannot reach any more may still be read by somebody who knows how."""
    keeper = connect(path)
    for number in range(8):
        keeper.execute("INSERT INTO teams (name, created_ms) VALUES (?, 1)", (f"team {number}",))
    whole = {ending: path.with_name("o.db" + ending).read_bytes() for ending in ("", "-wal")}
    keeper.close()
    torn = bytearray(whole["-wal"])
    torn[32 + 24 + 100] ^= 0xFF  # in the first frame
    path.write_bytes(whole[""])
    path.with_name("o.db-wal").write_bytes(torn)
    done = put_back(path, backup)
    assert done.replaced is not None
    assert done.replaced.read_bytes() == whole[""]
    assert done.replaced.with_name(done.replaced.name + "-wal").read_bytes() == torn
    assert check_file(path) == [] and dump(path, "teams") == []


@pytest.mark.parametrize("code", [apsw.SQLITE_FULL, apsw.SQLITE_IOERR_WRITE])
def test_a_disk_that_fails_changes_nothing(path: Path, backup: Path, code: int) -> None:
    before = dump(path)
    with a_disk() as disk:
        disk.arm(lambda what, file, _: code if (what, "partial" in file) == ("write", True) else 0)
        with pytest.raises(OperatorError) as caught:
            put_back(path, backup)
    assert caught.value.exit_code in (1, 5) and "\n" not in str(caught.value)
    assert dump(path) == before and files(path.parent) == {"o.db"}


def test_a_folder_that_may_not_be_written_is_one_clear_line(
    path: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(StorageUnreachable, match="Permission denied"):
        put_back(path, backup)


def test_a_restore_killed_at_any_step_leaves_the_old_ledger_or_the_new_one(tmp_path: Path) -> None:
    """Killed as it enters each of the steps that change what lies there, one after the other."""
    path, backup = tmp_path / "var" / "o.db", tmp_path / "b.db"
    place(path, "a")
    back_up(path, backup)
    place(path, "b")
    old, new = dump(path), dump(backup)
    seen = set()
    for number in range(1, 60):
        environ = {**os.environ, "KILL_AT": str(number)}
        script = KILL_AT + RESTORE
        done = subprocess.run([sys.executable, "-c", script, str(path), str(backup)], cwd=ROOT, env=environ)
        now = dump(path)
        assert now in (old, new) and check_file(path) == []
        seen.add("old" if now == old else "new")
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        if now == new:  # again from the start, with the kept one
            kept = min(path.parent.glob("o.db.replaced-*"))
            assert dump(kept) == old
            for other in path.parent.glob("o.db*"):
                if other != kept:
                    other.unlink()
            kept.rename(path)
    assert seen == {"old", "new"} and done.returncode == 0 and number > 5
    assert not list(path.parent.glob(".*")), "what the killed ones left was cleared up"
    assert len(list(path.parent.glob("o.db.replaced-*"))) == 1


KILL_AT = """
import os, signal
left = int(os.environ["KILL_AT"])
def counted(call):
    def counting(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return counting
for name in ("link", "rename", "replace", "unlink", "fsync", "sendfile"):
    setattr(os, name, counted(getattr(os, name)))
"""
