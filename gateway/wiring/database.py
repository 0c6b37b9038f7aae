"""The ledger's file as a whole: looked through, and copied."""

from pathlib import Path

import msgspec

from gateway.clock import SystemClock
from gateway.errors import Refused, StorageUnreachable
from gateway.ledger.sqlite_backup import BackedUp, back_up
from gateway.ledger.sqlite_check import Finding, check_file, check_rows, count_orders
from gateway.ledger.sqlite_engine import connect
from gateway.settings import Settings
from gateway.wiring.storage import open_storage


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """`orders` None: the file could not be read so far as to count them."""

    path: Path
    orders: int | None
    findings: tuple[Finding, ...]


def check_ledger(settings: Settings) -> Checked:
    """Everything that can be found out from the ledger alone. Refused where there is none."""
    path = ledger_file(settings)
    findings = check_file(path)
    if findings:  # nothing that rests on a damaged file would be worth knowing
        return Checked(path=path, orders=None, findings=tuple(findings))
    with open_storage(settings, SystemClock()) as storage:
        connection = connect(path)
        try:
            findings = check_rows(connection, storage.vault)
            return Checked(path=path, orders=count_orders(connection), findings=tuple(findings))
        finally:
            connection.close()


def back_up_ledger(settings: Settings, file: Path) -> BackedUp:
    """See `sqlite_backup.back_up`. Refused where there is no ledger."""
    path = ledger_file(settings)
    with open_storage(settings, SystemClock()):  # a ledger whose master key is lost is worth no backup: say so now
        return back_up(path, file)


def ledger_file(settings: Settings) -> Path:
    """The ledger's file, which must be there."""
    path = settings.storage.sqlite_path
    if path is None:
        raise StorageUnreachable("storage.url: this version stores in SQLite only (sqlite:///…)")
    if not path.exists():
        raise Refused(f"there is no ledger at {path}: see storage.url")
    return path
