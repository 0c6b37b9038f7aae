"""Opening the storage: for an instance that serves, and for the commands beside it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import msgspec

from gateway.broker.administration import Administration
from gateway.broker.vault import Vault
from gateway.clock import Clock, SystemClock, new_uuid7
from gateway.core.budget_terms import Limits
from gateway.errors import StorageUnreachable
from gateway.ledger.mark import standing
from gateway.ledger.sqlite_check import require_sound
from gateway.ledger.sqlite_engine import connect, reason_of
from gateway.ledger.sqlite_keys import SqliteKeys
from gateway.ledger.sqlite_owner import Owner
from gateway.ledger.sqlite_reader import SqliteReader
from gateway.settings import Settings
from gateway.wiring.actor import actor
from gateway.wiring.sealing import unlock


def limits_of(settings: Settings) -> Limits:
    """What every key may carry that has no limits of its own."""
    budget = settings.budget
    return Limits(
        per_minute=budget.per_minute,
        per_hour=budget.per_hour,
        reserved_per_minute=budget.reserved_per_minute,
        guaranteed_fraction=budget.guaranteed_fraction,
    )


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger's file that was opened and whose master key fits."""

    path: Path
    directory: SqliteKeys
    vault: Vault
    ledger_id: str


@contextmanager
def open_storage(settings: Settings, clock: Clock) -> Iterator[Storage]:
    """Opens the ledger, which is made where there is none; StorageUnreachable or BadSettings where it cannot be."""
    path = settings.storage.sqlite_path
    if path is None:
        raise StorageUnreachable("storage.url: this version stores in SQLite only (sqlite:///…)")
    directory = SqliteKeys(connect(path))
    try:
        check = directory.fact("vault_check")
        directory.keep_fact("ledger_id", new_uuid7(clock))
        ledger_id: str = directory.fact("ledger_id")
        vault = unlock(directory, Path(settings.secrets.master_key_file), ledger_id, clock).vault
        if check is None:  # before the ledger has its check value: one that has it is never begun again
            directory.begin_chain(vault, clock.wall_ms(), new=True)
        directory.keep_fact("vault_check", vault.check_value())
        vault.require_check_value(directory.fact("vault_check"))
        if directory.fact("audit_unlinked") is not None:
            directory.begin_chain(vault, clock.wall_ms(), new=False)
        yield Storage(path=path, directory=directory, vault=vault, ledger_id=ledger_id)
    except apsw.Error as fault:
        raise StorageUnreachable(f"{path}: {reason_of(fault)}") from fault
    finally:
        directory.close()


@contextmanager
def open_to_serve(settings: Settings, clock: Clock) -> Iterator[Storage]:
    """The same, for an instance: it starts on no file that is damaged, or that it may not write."""
    path = settings.storage.sqlite_path
    if path is not None and path.exists() and not os.access(path, os.W_OK):
        raise StorageUnreachable(f"{path}: this user may not write it")
    with open_storage(settings, clock) as storage:
        require_sound(storage.path)
        yield storage


def versions(storage: Storage) -> str:
    """Which SQLite it is, and how far the ledger is migrated, in words."""
    connection = connect(storage.path)
    try:
        return f"SQLite {apsw.sqlite_lib_version()}, schema {connection.pragma('user_version')}"
    finally:
        connection.close()


def is_served(path: Path) -> bool:
    """Whether a process that may send orders lives on this ledger."""
    owner = Owner(path)
    try:
        return not owner.nobody_lives()
    finally:
        owner.release()


def mark_of(storage: Storage) -> tuple[bool, str]:
    """Whether the ledger is the newest there was, and in words how that is known; see `ledger.mark`."""
    connection = connect(storage.path)
    try:
        return standing(connection, storage.path, storage.ledger_id)
    finally:
        connection.close()


@contextmanager
def open_administration(settings: Settings) -> Iterator[Administration]:
    """Administration on a connection of its own, beside whatever runs; its changes wait their turn."""
    clock = SystemClock()
    with open_storage(settings, clock) as storage, storage.directory.patient():
        yield Administration(storage.directory, storage.vault, clock, who=actor(), budget=settings.budget)


@contextmanager
def open_orders(settings: Settings) -> Iterator[SqliteReader]:
    """The ledger's orders, to look at."""
    with open_storage(settings, SystemClock()) as storage:
        reader = SqliteReader(storage.path, storage.vault)
        try:
            yield reader
        finally:
            reader.close()
