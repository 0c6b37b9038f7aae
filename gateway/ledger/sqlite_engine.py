"""Opening an SQLite database that can be trusted, and one transaction on it.

WAL with `synchronous=FULL`: a commit returns after its fsync. apsw brings an SQLite of its own, because versions
3.7.0 to 3.51.2 can corrupt a WAL database that two processes write. This module is the one boundary at which
SQLite's errors become the ledger's.
"""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Final

import apsw

from gateway.errors import LedgerBusy, LedgerError, LedgerUndecided, StorageUnreachable
from gateway.ledger.partial import sync_folder
from gateway.ledger.sqlite_log import require_whole_log

OLDEST_SQLITE: Final = 3_051_003
APPLICATION_ID: Final = 0x4F524447  # "ORDG": a foreign database is never migrated
BUSY_TIMEOUT_MS: Final = 900
"""How long a write waits for another process. A tenant waits for one group that was before it and for its own, and
is told within 2 s that its order was not accepted."""

OPEN_TIMEOUT_MS: Final = 10_000
OPEN_PAUSE_MS: Final = 50
"""How long opening waits for another process that makes, migrates or writes the same file, and how often it looks."""

WAL_LIMIT_BYTES: Final = 16 * 1024 * 1024
_OCCUPIED: Final = (apsw.BusyError, apsw.LockedError)
_DAMAGED: Final = (apsw.CorruptError, apsw.NotADBError)
_CERTAINLY_UNDONE: Final = (apsw.FullError, apsw.ConstraintError, apsw.ReadOnlyError, apsw.TooBigError)
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a write for which there was no room: on the disk, in a quota, under a limit on file sizes.
SQLite tells the first alone from a broken disk."""


def connect(path: Path) -> apsw.Connection:
    """A migrated connection to the ledger's file, which is made with mode 0600 where there is none.

    StorageUnreachable where it cannot be opened, is no ledger, or was written by a newer version.
    """
    if apsw.SQLITE_VERSION_NUMBER < OLDEST_SQLITE:
        raise StorageUnreachable(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt a ledger; 3.51.3 or newer is needed"
        )
    try:
        make_folder(path.parent)
        _make_file(path)
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_busy_timeout(OPEN_TIMEOUT_MS)
            _configure(connection, path)
            require_whole_log(connection, path)
            _migrate(connection, path)
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        except BaseException:
            connection.close(True)
            raise
    except apsw.Error as fault:
        look = "" if isinstance(fault, _DAMAGED) else "; `ordergate doctor` looks closer"
        raise StorageUnreachable(f"{path}: {reason_of(fault)}{look}") from fault
    except OSError as fault:
        raise StorageUnreachable(f"{path}: {fault.strerror}") from fault
    return connection


@contextmanager
def patient(connection: apsw.Connection) -> Iterator[None]:
    """Waits for other processes as long as opening does: no tenant waits for what a start writes."""
    connection.set_busy_timeout(OPEN_TIMEOUT_MS)
    try:
        yield
    finally:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[apsw.Connection]:
    """One write transaction: durable when the block is left, rolled back when it raises.

    LedgerBusy: the database stayed locked. LedgerError: nothing was written. LedgerUndecided: the commit, or a
    write below it, failed in a way that says nothing of what is on the disk; use this connection no more.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
    except _OCCUPIED as fault:
        raise LedgerBusy("another process holds the ledger") from fault
    except apsw.Error as fault:
        raise LedgerError(reason_of(fault)) from fault
    try:
        yield connection
        connection.execute("COMMIT")
    except apsw.Error as fault:
        if not isinstance(fault, (*_OCCUPIED, *_CERTAINLY_UNDONE)) and not _had_no_room(connection, fault):
            raise LedgerUndecided(reason_of(fault)) from fault
        _roll_back(connection, fault)
        kind = LedgerBusy if isinstance(fault, _OCCUPIED) else LedgerError
        raise kind(reason_of(fault)) from fault
    except BaseException as fault:
        _roll_back(connection, fault)
        raise


def _had_no_room(connection: apsw.Connection, fault: apsw.Error) -> bool:
    """A commit's last frame is written last: where a write had no room, there is no commit in the log."""
    code: int = vars(fault).get("extendedresult", 0)
    return code == apsw.SQLITE_IOERR_WRITE and connection.system_errno in _NO_ROOM


def close(connection: apsw.Connection) -> None:
    """Closes it, whatever the disk says. What was committed is in the log; only folding it into the database fails."""
    with suppress(apsw.Error):
        connection.close(True)


def _roll_back(connection: apsw.Connection, cause: BaseException) -> None:
    if not connection.in_transaction:  # SQLite rolled back by itself
        return
    try:
        connection.execute("ROLLBACK")
    except apsw.Error as fault:
        raise LedgerUndecided(reason_of(fault)) from cause


def make_folder(folder: Path) -> None:
    """With what is missing above it, all with mode 0700: `parents=True` would leave those to the umask.

    Each durable in its parent: a power cut must not take the folder away with all that is durable in it.
    """
    for missing in reversed([place for place in (folder, *folder.parents) if not place.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
        sync_folder(missing.parent)


def _make_file(path: Path) -> None:
    """With mode 0600. A file that is there is not opened: closing it again would take this process's SQLite locks
    on it away (POSIX), and another process could then remove a write-ahead log that is in use.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _require_ours(connection: apsw.Connection, path: Path) -> None:
    """Before anything is changed: a ledger, or an empty database that becomes one."""
    with connection:  # one moment: another process may be migrating
        found = connection.pragma("application_id"), connection.pragma("user_version")
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    if found[0] != APPLICATION_ID and (*found, tables) != (0, 0, 0):
        raise StorageUnreachable(f"{path}: this is another program's SQLite database")


def _configure(connection: apsw.Connection, path: Path) -> None:
    _require_ours(connection, path)
    if _write_ahead(connection) != "wal":
        raise StorageUnreachable(f"{path}: write-ahead logging cannot be used here; put the ledger on a local disk")
    connection.pragma("synchronous", "FULL")
    connection.pragma("foreign_keys", True)
    connection.pragma("journal_size_limit", WAL_LIMIT_BYTES)


def _write_ahead(connection: apsw.Connection) -> str:
    """The journal mode after asking for WAL. SQLite does not wait by itself where another process asks as well."""
    for _ in range(OPEN_TIMEOUT_MS // OPEN_PAUSE_MS):
        try:
            return str(connection.pragma("journal_mode", "WAL"))
        except apsw.BusyError:
            threading.Event().wait(OPEN_PAUSE_MS / 1000)
    return str(connection.pragma("journal_mode", "WAL"))


def _migrate(connection: apsw.Connection, path: Path) -> None:
    """Runs the migrations that the database has not seen, all in one transaction: whole or not at all."""
    scripts = _scripts()
    if connection.pragma("user_version") == len(scripts):
        return
    connection.execute("BEGIN EXCLUSIVE")  # of several processes that start at once, one migrates, the others wait
    try:
        seen = connection.pragma("user_version")
        if seen > len(scripts):
            raise StorageUnreachable(f"{path}: its schema ({seen}) is newer than this program's ({len(scripts)})")
        for script in scripts[seen:]:
            connection.execute(script)
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", len(scripts))
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def schema_version(file: Path) -> tuple[int, int]:
    """How far the file is migrated, and how far this program would migrate it. Raises apsw.Error."""
    connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return int(connection.pragma("user_version")), len(_scripts())
    finally:
        connection.close()


def _scripts() -> list[str]:
    folder = resources.files("gateway.ledger") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(folder / name).read_text(encoding="utf-8") for name in names]


def reason_of(fault: apsw.Error) -> str:
    """What SQLite says, and where to look where it says that the file is damaged."""
    look = "; `ordergate db check` says what is damaged" if isinstance(fault, _DAMAGED) else ""
    return f"{type(fault).__name__}: {fault}{look}"
