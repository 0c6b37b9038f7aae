"""Copies of a ledger: taken while it runs, whole or not at all.

A backup is one file of its own, no write-ahead log beside it, mode 0600. What is sealed stays sealed: it is worth
nothing without the master key, which is in no backup of a ledger.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from gateway.errors import OperatorError, Refused, StorageUnreachable
from gateway.ledger.mark import Quarantine, put_into_quarantine
from gateway.ledger.partial import partial, put_new
from gateway.ledger.sqlite_check import count_orders
from gateway.ledger.sqlite_engine import OPEN_TIMEOUT_MS, connect, reason_of

_ALL_PAGES: Final = -1
"""In one step, as of one moment: a copy in steps begins anew whenever somebody writes in between."""


class BackedUp(msgspec.Struct, frozen=True, kw_only=True):
    """`size` in bytes."""

    file: Path
    size: int
    orders: int


def back_up(path: Path, file: Path) -> BackedUp:
    """Writes the ledger at `path`, as of one moment, to `file`, durably. Orders go on meanwhile.

    Refused where `file` is there already; OperatorError where the ledger is damaged or the disk is full;
    StorageUnreachable where one of them cannot be read or written.
    """
    if os.path.lexists(file):
        raise Refused(f"{file} is there already, and nothing is written over: name another file")
    with told(file), partial(file) as beside:
        source = connect(path)
        try:
            orders = _copy(source, beside)
        finally:
            source.close()
        try:
            put_new(beside, file)
        except FileExistsError as fault:
            raise Refused(f"{file} was made by somebody else meanwhile: name another file") from fault
        return BackedUp(file=file, size=file.stat().st_size, orders=orders)


def _copy(source: apsw.Connection, file: Path) -> int:
    """Copies into the empty file, and reads the copy again. Returns how many orders it holds."""
    copy = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        # Nobody else looks at it, and until it is synced and named it is nothing: no journal, no waiting for the disk.
        copy.pragma("locking_mode", "EXCLUSIVE")
        copy.pragma("journal_mode", "OFF")
        copy.pragma("synchronous", "OFF")
        source.set_busy_timeout(OPEN_TIMEOUT_MS)
        with copy.backup("main", source, "main") as copying:
            while not copying.done:
                copying.step(_ALL_PAGES)
        found: list[Any] = copy.execute("PRAGMA integrity_check(1)").fetchall()
        if found != [("ok",)]:
            raise OperatorError("the ledger is damaged, no backup was made: `ordergate db check` says where")
        make_single(copy)
        put_into_quarantine(copy, Quarantine(reason="restored", since_tick=None))
        return count_orders(copy)
    finally:
        copy.close(True)


def make_single(connection: apsw.Connection) -> None:
    """The whole database in its one file, with no write-ahead log beside it."""
    if connection.pragma("journal_mode", "DELETE") != "delete":
        raise StorageUnreachable("the copy's write-ahead log cannot be folded into it")


@contextmanager
def told(file: Path) -> Iterator[None]:
    """What the system or SQLite says, as one line that names the file."""
    try:
        yield
    except apsw.FullError as fault:
        raise OperatorError(f"{file}: the disk is full; nothing was left there") from fault
    except apsw.Error as fault:
        raise StorageUnreachable(f"{file}: {reason_of(fault)}; nothing was left there") from fault
    except OSError as fault:
        raise StorageUnreachable(f"{fault.filename or file}: {fault.strerror}; nothing was left there") from fault
