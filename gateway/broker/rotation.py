"""Rotating the master key, while instances run.

1. A new version is added to the key file, durably: nothing can be under it that nobody could open.
2. In one transaction the ledger key and every upstream key are sealed anew under it, with the audit row. Before it all
   of the ledger stands under the old version, after it all of it under the new one. What would be written under another
   version than the ledger's is refused by the database.
3. The old records are wiped out of the database's file and its log.
4. With `drop_old`, the other versions are taken out of the key file.

Killed after 1, the ledger stands under the old version and the file holds both: everything goes on, and the next
rotation begins with 2. Killed later, nothing is left to do but 3 and 4, which the next rotation does.

Instances need nothing of it in time. They hold their keys opened; when they see the directory's version move they read
the records again, and the key file where these are under a version that they do not know.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec

from gateway.broker.directory import KEY_COLUMN, KEYS_TABLE, row_of_key
from gateway.broker.key_file import KeyFile, Turning
from gateway.broker.vault import LedgerKey, Vault
from gateway.clock import Clock
from gateway.core.directory import DirectoryRows
from gateway.errors import SealBroken


class Store(Protocol):
    """What a rotation needs of a storage. All writes stand inside `change()`."""

    def change(self) -> AbstractContextManager[None]: ...
    def rows(self) -> DirectoryRows: ...
    def put_ledger_key(self, sealed: bytes) -> None: ...
    def put_sealed_key(self, key_id: str, sealed: bytes) -> None: ...
    def audit_all(
        self, marks: Vault, *, at_ms: int, who: str, changes: Iterable[tuple[str, str, Mapping[str, Any]]]
    ) -> None: ...
    def be_patient(self) -> None: ...
    def overwrite(self) -> None: ...
    def wipe(self) -> bool: ...


class Rotated(msgspec.Struct, frozen=True, kw_only=True):
    """What a rotation did.

    `before`, `version`: what the ledger stood under, and stands under. `keys`: how many upstream keys were sealed anew.
    `unreadable`: ids of those that could not be opened before, and cannot be now. `held`: the versions in the key file.
    `wiped`: whether the old records are out of the ledger's files already. `from_master`: see `LedgerKey`.
    """

    before: int
    version: int
    keys: int
    unreadable: tuple[str, ...]
    held: tuple[int, ...]
    wiped: bool
    from_master: bool


class Rotation:
    """`key` is the ledger's, `vault` opens what is under the version before. `who`: for the audit log."""

    def __init__(
        self, *, store: Store, file: KeyFile, key: LedgerKey, vault: Vault, ledger_id: str, clock: Clock, who: str
    ) -> None:
        self._store = store
        self._file = file
        self._key = key
        self._vault = vault
        self._ledger_id = ledger_id
        self._clock = clock
        self._who = who

    def run(self, *, drop_old: bool) -> Rotated:
        """Rotates, or brings a rotation that was cut off to its end. Refused while another one goes on."""
        with self._file.turning() as turning:
            version = self._next_version(turning)
            self._store.be_patient()
            self._store.overwrite()
            before, keys, unreadable = self._rewrite(version)
            wiped = self._store.wipe()
            if drop_old:
                turning.keep_only(version)
            return Rotated(
                before=before, version=version, keys=keys, unreadable=unreadable, held=self._file.read().versions,
                wiped=wiped, from_master=self._key.from_master,
            )  # fmt: skip

    def _next_version(self, turning: Turning) -> int:
        """A version newer than the ledger's: the one that a killed rotation made, or a new one."""
        newest, stands_under = self._file.read().newest, self._store.rows().master_version
        if newest > stands_under:
            return newest
        turning.add(stands_under + 1)
        return stands_under + 1

    def _rewrite(self, version: int) -> tuple[int, int, tuple[str, ...]]:
        """Seals everything anew. The version before, how many keys, and the ids of those that cannot be opened."""
        master = self._file.read().of_version(version)
        sealed = self._key.sealed(master, ledger_id=self._ledger_id, clock=self._clock)
        count = 0
        unreadable: list[str] = []
        with self._store.change():
            rows = self._store.rows()
            self._store.put_ledger_key(sealed)
            for key in rows.keys:
                place = {"table": KEYS_TABLE, "row": row_of_key(key.team_id, key.key_id), "column": KEY_COLUMN}
                try:
                    secret = self._vault.open_secret(key.sealed_key, **place)
                except SealBroken:
                    unreadable.append(key.key_id)
                    continue
                self._store.put_sealed_key(key.key_id, self._vault.seal_secret(secret, **place, version=version))
                count += 1
            change = {
                "keys": count, "unreadable": unreadable,
                "from": {"version": rows.master_version}, "to": {"version": version},
            }  # fmt: skip
            changes = [("secrets rotate", "master key", change)]
            self._store.audit_all(self._vault, at_ms=self._clock.wall_ms(), who=self._who, changes=changes)
        return rows.master_version, count, tuple(unreadable)
