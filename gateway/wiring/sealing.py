"""The master key's file and the ledger brought together: opened as one vault, and rotated."""

from pathlib import Path
from typing import Final

import apsw
import msgspec

from gateway.broker.directory import KEY_COLUMN, KEYS_TABLE, row_of_key
from gateway.broker.key_file import SETTING, KeyFile
from gateway.broker.master_key import Masters
from gateway.broker.rotation import Rotated, Rotation
from gateway.broker.vault import LedgerKey, Vault, version_of
from gateway.clock import Clock, SystemClock
from gateway.errors import BadSettings, MasterKeyMissing, SealBroken
from gateway.ledger.sqlite_keys import SqliteKeys
from gateway.settings import Settings
from gateway.wiring.actor import actor

LOOKS: Final = 3
"""How often the ledger and the key file are read where they do not fit: one of them may have been read before a
rotation and the other one after it."""

ANOTHER_KEY: Final = (
    f"{SETTING}: this ledger was written under another master key: restore the key file that belongs to it"
)


class Unlocked(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger whose master key fits."""

    file: KeyFile
    key: LedgerKey
    vault: Vault


def unlock(store: SqliteKeys, key_file: Path, ledger_id: str, clock: Clock) -> Unlocked:
    """Opens the ledger key, which is made where there is none; so is the key file, where nothing rests on it yet.

    BadSettings, one line, where the master key does not fit.
    """
    file = KeyFile(key_file, clock)
    for _ in range(LOOKS - 1):
        try:
            return _unlock(store, file, ledger_id, clock)
        except MasterKeyMissing:
            continue
    try:
        return _unlock(store, file, ledger_id, clock)
    except MasterKeyMissing as fault:
        raise BadSettings(f"{SETTING}: {key_file}: {fault}: put a key file there that holds it") from fault


def unlock_backup(connection: apsw.Connection, key_file: Path, clock: Clock) -> Vault:
    """The vault of a copy that is to be put in the ledger's place. BadSettings, one line, where it does not fit."""
    store = SqliteKeys(connection)
    check: bytes | None = store.fact("vault_check")
    if check is None:
        raise BadSettings(ANOTHER_KEY)
    vault = unlock(store, key_file, store.fact("ledger_id"), clock).vault
    vault.require_check_value(check)
    return vault


def standing_under(settings: Settings, version: int) -> tuple[bool, str]:
    """Whether the key file holds nothing newer than the ledger stands under, and in words what is to be done if so."""
    file = settings.secrets.master_key_file
    newest = KeyFile(Path(file), SystemClock()).read().newest
    if newest > version:
        said = (
            f"the ledger stands under version {version}, {file} holds {newest}: a rotation was cut off, or this is"
        )
        return False, f"{said} a backup from before one: ordergate secrets rotate"
    return True, f"{file} fits the ledger, which stands under version {version}"


def open_ledger_key(sealed: bytes, masters: Masters, ledger_id: str) -> LedgerKey:
    """Raises BadSettings where it is another master key's, and MasterKeyMissing where the version is not there."""
    try:
        return LedgerKey.opened(sealed, masters, ledger_id=ledger_id)
    except MasterKeyMissing:
        raise
    except SealBroken as fault:
        raise BadSettings(ANOTHER_KEY) from fault


def _unlock(store: SqliteKeys, file: KeyFile, ledger_id: str, clock: Clock) -> Unlocked:
    sealed, check = store.fact("ledger_key"), store.fact("vault_check")
    masters = Masters(file.read(may_create=sealed is None and check is None), file.read)
    if sealed is None:
        _begin(store, masters, check, ledger_id, clock)
        sealed = store.fact("ledger_key")
    key = open_ledger_key(sealed, masters, ledger_id)
    masters.stands_under(version_of(sealed, "meta.ledger_key"))
    return Unlocked(file=file, key=key, vault=Vault(key, clock, masters))


def _begin(store: SqliteKeys, masters: Masters, check: bytes | None, ledger_id: str, clock: Clock) -> None:
    """Gives a ledger its ledger key: a new one, or one that is older than ledger keys the root that it rests on."""
    version = masters.versions[-1] if check is None else 1
    master = masters.of_version(version)
    key = LedgerKey.new(clock) if check is None else LedgerKey.of_an_older_ledger(master)
    older = Vault(key, clock, masters)
    if check is not None:
        older.require_check_value(check)
    store.overwrite()
    with store.begin_ledger_key() as mine:
        if not mine:
            return
        rows = store.rows()
        store.put_ledger_key(key.sealed(master, ledger_id=ledger_id, clock=clock))
        for record in rows.keys:
            try:
                secret = older.open_secret(
                    record.sealed_key, table=KEYS_TABLE, row=record.key_id, column=KEY_COLUMN
                )
            except SealBroken:
                continue  # it stays what it is: a key that cannot be opened
            place = row_of_key(record.team_id, record.key_id)
            sealed = older.seal_secret(secret, table=KEYS_TABLE, row=place, column=KEY_COLUMN, version=version)
            store.put_sealed_key(record.key_id, sealed)


def rotate_master_key(settings: Settings, *, drop_old: bool) -> Rotated:
    """See `broker.rotation`. Refused where there is no ledger, or another rotation goes on."""
    from gateway.wiring.storage import open_storage  # which opens with the help of this module

    clock = SystemClock()
    with open_storage(settings, clock) as storage:
        unlocked = unlock(storage.directory, Path(settings.secrets.master_key_file), storage.ledger_id, clock)
        return Rotation(
            store=storage.directory,
            file=unlocked.file,
            key=unlocked.key,
            vault=unlocked.vault,
            ledger_id=storage.ledger_id,
            clock=clock,
            who=actor(),
        ).run(drop_old=drop_old)
