"""Whether a ledger is the newest there was, and the quarantine of one that is not.

A ledger that was restored, or whose file was replaced by an older copy, does not know what was placed since: what it
took for new could be placed twice. So beside the ledger lies `FILE.mark`, with the ledger's id and the number of its
last *beat*. The number grows in the ledger with each beat, and the mark follows when that is durable: a ledger that is
behind its mark, or another one than the mark names, has lost something. It is put into quarantine, a fact in the ledger
itself, which outlives the process, the mark and the machine. Only a rejoin ends it.

A backup is in quarantine from the moment it is made: however it is put in place, it is known for what it is.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

import apsw
import msgspec

from gateway.errors import LedgerError, StorageUnreachable
from gateway.ledger.partial import sync_folder

_BEAT: Final = """
INSERT INTO meta (name, value) VALUES ('beat', 1) ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value
"""
_BEAT_FROM: Final = """
INSERT INTO meta (name, value) VALUES ('beat', ?1) ON CONFLICT DO UPDATE SET value = max(value, ?1)
"""
_FACT: Final = "SELECT value FROM meta WHERE name = ?"
_PUT: Final = "INSERT INTO meta (name, value) VALUES ('quarantine', ?1) ON CONFLICT DO UPDATE SET value = ?1"
_END: Final = "DELETE FROM meta WHERE name = 'quarantine'"
_MOST_BYTES: Final = 4_096


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger beside it must have reached: `beat` of the ledger `ledger`."""

    ledger: str
    beat: int


class Quarantine(msgspec.Struct, frozen=True, kw_only=True):
    """Why a ledger must not place orders, and since which tick of its time; None: since it is put in place again.

    `restored`: it is a backup. `older`: it is behind its mark. `another`: its mark names another ledger, or nothing
    that can be read.
    """

    reason: Literal["restored", "older", "another"]
    since_tick: int | None


def mark_path(path: Path) -> Path:
    path = path.resolve()  # one file, one mark, whatever link leads to it
    return path.with_name(path.name + ".mark")


def read_mark(path: Path) -> Mark | None:
    """The mark beside the ledger at `path`; one of no ledger where it cannot be made out; None where there is none.

    Raises StorageUnreachable where the file is there and cannot be read.
    """
    place = mark_path(path)
    try:
        with place.open("rb") as file:
            content = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise StorageUnreachable(f"{place}: {fault.strerror}") from fault
    try:
        return msgspec.json.decode(content, type=Mark)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Mark(ledger="", beat=0)


def keep_mark(path: Path, mark: Mark) -> None:
    """Writes the mark, durably, unless it is further already. Its beat must be durable in the ledger before.

    Of several processes that write at once one does, which is enough: another beat comes. Raises LedgerError.
    """
    place = mark_path(path)
    try:
        folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(BlockingIOError):
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                there = read_mark(path)
                if there is None or there.ledger != mark.ledger or there.beat < mark.beat:
                    _write(place, msgspec.json.encode(mark))
        finally:
            os.close(folder)
    except (OSError, StorageUnreachable) as fault:
        raise LedgerError(f"{place}: cannot be written: {fault}") from fault


def beat(connection: apsw.Connection) -> int:
    """The next beat's number, inside the caller's transaction."""
    found: int = connection.execute(_BEAT).get
    return found


def last_beat(connection: apsw.Connection) -> int:
    found: int | None = connection.execute(_FACT, ("beat",)).get
    return found or 0


def quarantine_of(connection: apsw.Connection) -> Quarantine | None:
    found: Any = connection.execute(_FACT, ("quarantine",)).get
    return None if found is None else msgspec.json.decode(str(found), type=Quarantine)


def put_into_quarantine(connection: apsw.Connection, found: Quarantine, mark: Mark | None = None) -> None:
    """Inside the caller's transaction. From here on the ledger is no more behind the mark: it knows that it was."""
    connection.execute(_PUT, (msgspec.json.encode(found).decode(),))
    if mark is not None:
        connection.execute(_BEAT_FROM, (mark.beat,))


def end_quarantine(connection: apsw.Connection) -> None:
    """Inside the transaction of what ends it."""
    connection.execute(_END)


def examine(connection: apsw.Connection, path: Path, ledger_id: str, tick: int) -> Quarantine | None:
    """Whether this ledger is in quarantine, into which it is put here where it has to be.

    Inside the caller's transaction, before the ledger beats again. `tick`: the ledger's time now.
    """
    mark, found = read_mark(path), quarantine_of(connection)
    if mark is not None and mark.ledger != ledger_id:
        found = Quarantine(reason="another", since_tick=tick)
    elif mark is not None and mark.beat > last_beat(connection):
        found = Quarantine(reason="older", since_tick=tick)
    elif found is None:
        return None
    elif found.since_tick is None:
        found = Quarantine(reason=found.reason, since_tick=tick)
    put_into_quarantine(connection, found, mark)
    return found


def standing(connection: apsw.Connection, path: Path, ledger_id: str) -> tuple[bool, str]:
    """Whether the ledger may place orders as far as its mark goes, and why in words. Changes nothing."""
    mark, beat_number, found = read_mark(path), last_beat(connection), quarantine_of(connection)
    if found is not None:
        return False, "the ledger is in quarantine, no order is placed: ordergate db rejoin"
    if mark is None:
        return True, "there is no mark yet: the next start makes it"
    if mark.ledger != ledger_id or mark.beat > beat_number:
        whose = (
            "another ledger's" if mark.ledger != ledger_id else f"at beat {mark.beat}, the ledger at {beat_number}"
        )
        return False, f"{mark_path(path)} is {whose}: no order will be placed before ordergate db rejoin"
    return True, f"the ledger is at beat {beat_number}, its mark at {mark.beat}"


def _write(place: Path, content: bytes) -> None:
    beside = place.with_name(f".{place.name}.new")
    beside.unlink(missing_ok=True)  # what a killed process left
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.replace(place)
    sync_folder(place.parent)
