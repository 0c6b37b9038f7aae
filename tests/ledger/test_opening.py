"""What is opened as a ledger, and what is refused, with one line and without a change."""

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from gateway.errors import StorageUnreachable
from gateway.ledger.sqlite_directory import SqliteDirectory
from gateway.ledger.sqlite_engine import APPLICATION_ID, BUSY_TIMEOUT_MS, _scripts, connect
from gateway.ledger.sqlite_owner import Owner
from tests.ledger.ledger_tools import a_ledger, alter


def _refused(path: Path, says: str) -> None:
    before = path.read_bytes() if path.is_file() else None
    for _again in range(2):
        with pytest.raises(StorageUnreachable, match=says) as caught:
            connect(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before, "what is refused stays as it was"


def test_a_new_ledger_is_made_and_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "o.db"
    connect(path).close()
    connection = connect(path)
    assert connection.pragma("application_id") == APPLICATION_ID
    assert connection.pragma("user_version") == len(_scripts())
    assert SqliteDirectory(connection).version() == 1
    connection.close()


def test_tenants_that_were_there_before_keep_the_digests_of_their_keys(tmp_path: Path) -> None:
    """Theirs were made with their id, and stand in rows and at OfferGrid; whoever comes later is known by its name."""
    path = tmp_path / "o.db"
    for script in _scripts()[:2]:
        alter(path, script)
    alter(path, f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 2")
    add = """INSERT INTO tenants (tenant_id, name, team_id, state, require_idempotency_key, defaults, enforced,
                                  created_ms)
             VALUES (?, ?, 1, 'active', 0, '{}', '{}', 1)"""
    alter(path, "INSERT INTO teams (name, created_ms) VALUES ('team', 1)")
    alter(path, add, 7, "old")
    connect(path).close()
    alter(path, add, 8, "young")
    connection = connect(path)
    assert {tenant.name: tenant.scope for tenant in SqliteDirectory(connection).rows().tenants} == {
        "old": "7",
        "young": "young",
    }
    connection.close()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    connect(path).close()
    alter(path, f"PRAGMA user_version = {len(_scripts()) + 1}")
    _refused(path, "newer than this program's")


FOREIGN = [
    "CREATE TABLE theirs (x)",
    "CREATE TABLE theirs (x); PRAGMA user_version = 1",
    "CREATE TABLE orders (x); PRAGMA user_version = 7",
    "PRAGMA user_version = 1",
    "CREATE VIEW theirs AS SELECT 1",
    "PRAGMA application_id = 1; CREATE TABLE theirs (x)",
    f"PRAGMA application_id = {APPLICATION_ID + 1}; PRAGMA user_version = 1",
]


@pytest.mark.parametrize("statements", FOREIGN)
def test_another_programs_database_is_refused_untouched(tmp_path: Path, statements: str) -> None:
    path = tmp_path / "theirs.db"
    alter(path, statements)
    _refused(path, "another program's")
    assert [file.name for file in tmp_path.iterdir()] == ["theirs.db"]


def _noise(path: Path) -> None:
    path.write_bytes(b"\x00\xffthis is no database" * 1000)


def _cut(path: Path) -> None:
    connect(path).close()
    path.write_bytes(path.read_bytes()[:5000])


def _scribbled(path: Path) -> None:
    connect(path).close()
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\x5a" * 3996
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("spoil", [_noise, _cut, _scribbled])
def test_a_spoiled_file_is_refused_in_one_line(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "o.db"
    spoil(path)
    _refused(path, "ordergate db check")


def test_a_place_that_cannot_be_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    _refused(tmp_path / "file" / "o.db", "Not a directory")
    (tmp_path / "folder").mkdir()
    _refused(tmp_path / "folder", "Is a directory|unable to open")
    with pytest.raises(StorageUnreachable, match="Not a directory"):
        Owner(tmp_path / "file" / "o.db")


def test_what_may_not_be_written_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an unprivileged user meets it; the superuser may write anything, so the kernel's answer is given here."""

    def denied(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    for opens in (connect, Owner):
        with pytest.raises(StorageUnreachable, match="Permission denied"):
            opens(tmp_path / "o.db")


def test_an_sqlite_that_can_corrupt_a_ledger_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "SQLITE_VERSION_NUMBER", 3_051_002)
    with pytest.raises(StorageUnreachable, match=r"3\.51\.3 or newer"):
        connect(tmp_path / "o.db")
    assert not list(tmp_path.iterdir())


def _opens(path: Path) -> int:
    connection = connect(path)
    found: int = SqliteDirectory(connection).version()
    connection.close()
    return found


def test_of_processes_that_start_at_once_one_migrates(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(6) as pool:
        for again in range(15):
            assert pool.map(_opens, [tmp_path / f"{again}.db"] * 8, chunksize=1) == [1] * 8


def test_a_start_waits_for_who_writes(tmp_path: Path) -> None:
    """Longer than a tenant's order would: a process that ended instead would have to be started again."""

    async def play() -> None:
        async with a_ledger(path) as ledger:
            await ledger.beat()

    path = tmp_path / "o.db"
    connect(path).close()
    writer = connect(path)
    writer.execute("BEGIN IMMEDIATE")
    ends = threading.Timer(1.5 * BUSY_TIMEOUT_MS / 1000, writer.execute, ["COMMIT"])
    ends.start()
    asyncio.run(play())
    ends.join()
    writer.close()


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = _scripts()
    module = "gateway.ledger.sqlite_engine._scripts"
    monkeypatch.setattr(module, lambda: [*scripts, "CREATE TABLE more (x); CREATE TABLE more (x)"])
    path = tmp_path / "o.db"
    with pytest.raises(StorageUnreachable):
        connect(path)
    monkeypatch.undo()
    connect(path).close()
