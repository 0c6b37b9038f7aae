"""Putting a backup in the ledger's place: while nobody uses it, looked through before, all at once.

At every moment the ledger's file is the old one or the new one, each of them whole. The old one stays beside it.
What is put in place is in quarantine: see `ledger.mark`.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import apsw
import msgspec

from gateway.clock import Clock, rfc3339
from gateway.core.audit import Marks
from gateway.errors import Refused, StorageUnreachable
from gateway.ledger.ledger_time import LedgerTime
from gateway.ledger.mark import Quarantine, put_into_quarantine, read_mark
from gateway.ledger.partial import partial, put_over, sync_folder
from gateway.ledger.sqlite_alone import alone
from gateway.ledger.sqlite_audit import audit
from gateway.ledger.sqlite_backup import make_single, told
from gateway.ledger.sqlite_check import check_file, count_orders
from gateway.ledger.sqlite_engine import connect, make_folder, schema_version, transaction
from gateway.ledger.sqlite_log import require_whole_log

_REPLACED: Final = ".replaced-"
_LOG: Final = "-wal"

Opens = Callable[[apsw.Connection], Marks]


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """`replaced`: where the ledger that stood there before is kept; None where there was none."""

    ledger: Path
    orders: int
    replaced: Path | None


def restore(path: Path, backup: Path, opens: Opens, clock: Clock, *, who: str) -> Restored:
    """Makes `backup` the ledger at `path`, durably. The backup itself stays as it is. `who`: for the audit log.

    `opens` gives what marks the copy's audit log, and raises where the copy is not under the master key that is there.
    Refused where a process lives on the ledger, or the backup is not a whole ledger's of this version or an older one.
    """

    def note(connection: apsw.Connection, marks: Marks) -> None:
        change = {"backup": backup.name}
        at_ms = clock.wall_ms()
        audit(connection, marks, at_ms=at_ms, who=who, action="db restore", subject="ledger", change=change)

    path = path.resolve()
    if not backup.is_file():
        raise Refused(f"there is no backup at {backup}")
    if path.exists() and backup.samefile(path):
        raise Refused(f"{backup} is the ledger itself")
    with told(path):
        make_folder(path.parent)
        with alone(path), partial(path) as beside:
            _copy(backup, beside)
            orders = _prepare(beside, path, backup, opens, clock, note)
            with _set_aside(path, clock) as replaced:
                put_over(beside, path)
    return Restored(ledger=path, orders=orders, replaced=replaced)


def _copy(backup: Path, to: Path) -> None:
    """Byte for byte, with the log of a copy that was made by hand. The backup is opened as no database."""
    shutil.copyfile(backup, to)
    log = backup.with_name(backup.name + _LOG)
    if log.is_file():
        shutil.copyfile(log, to.with_name(to.name + _LOG))


def _prepare(
    file: Path,
    path: Path,
    backup: Path,
    opens: Opens,
    clock: Clock,
    note: Callable[[apsw.Connection, Marks], None],
) -> int:
    """Looks the copy through, puts it into quarantine and has that noted. Returns how many orders it holds."""
    findings = check_file(file)
    if findings:
        raise Refused(f"{backup} is no whole ledger: {findings[0].where}: {findings[0].what}")
    found, known = schema_version(file)
    if found > known:
        raise Refused(f"{backup}: its schema ({found}) is newer than this program's ({known})")
    connection = connect(file)
    try:
        marks = opens(connection)
        with transaction(connection):
            tick = LedgerTime(connection, clock).tick()
            put_into_quarantine(connection, Quarantine(reason="restored", since_tick=tick), read_mark(path))
            note(connection, marks)
        make_single(connection)
        return count_orders(connection)
    finally:
        connection.close()


@contextmanager
def _set_aside(path: Path, clock: Clock) -> Iterator[Path | None]:
    """The name under which the ledger's file is kept; in the block nobody else can open it under its own.

    Refused where a command has it open. A damaged file is kept as it is, with its log.
    """
    if not path.exists():
        _remove_logs(path)  # of a file that somebody removed: it must not be read into the new one
        yield None
        return
    connection = _held(path)
    try:
        stamp = rfc3339(clock.wall_ms()).replace(":", "").replace("-", "")
        kept = path.with_name(path.name + _REPLACED + stamp)
        _link(path, kept)
        log = path.with_name(path.name + _LOG)
        if log.exists():  # of a damaged file: any other has folded it in
            _link(log, kept.with_name(kept.name + _LOG))
        sync_folder(path.parent)
        _remove_logs(path)
        yield kept
    finally:
        if connection is not None:
            connection.close()


def _held(path: Path) -> apsw.Connection | None:
    """The ledger's file in one piece, open to this process alone; None where it is damaged."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.pragma("locking_mode", "EXCLUSIVE")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # reads the log
        require_whole_log(connection, path)
        make_single(connection)
        connection.execute("BEGIN EXCLUSIVE; COMMIT")
    except (apsw.BusyError, apsw.LockedError) as fault:
        connection.close()
        raise Refused(f"{path}: another command is using the ledger; nothing was changed") from fault
    except (apsw.CorruptError, apsw.NotADBError, apsw.IOError, StorageUnreachable):
        with suppress(apsw.Error):
            connection.close()
        return None
    return connection


def _link(file: Path, kept: Path) -> None:
    """A further name. One that a killed restore gave the same file is taken back first."""
    for other in file.parent.glob(f"{file.name.removesuffix(_LOG)}{_REPLACED}*"):
        if other.samefile(file):
            other.unlink()
    try:
        os.link(file, kept)
    except OSError as fault:
        if fault.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise
        shutil.copyfile(file, kept)  # a file system that gives a file one name only
        kept.chmod(0o600)


def _remove_logs(path: Path) -> None:
    for ending in (_LOG, "-shm", "-journal"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
