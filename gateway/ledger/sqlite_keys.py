"""The statements of the ledger key and of sealed upstream keys: how they are begun, and sealed anew by a rotation."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from gateway.ledger.sqlite_directory import SqliteDirectory
from gateway.ledger.sqlite_engine import OPEN_TIMEOUT_MS, transaction

WIPE_TRIES: Final = 50
WIPE_PAUSE_S: Final = 0.1
"""How often the log is folded into the file, where somebody reads it just then, and the pause between."""

WIPE_PATIENCE_MS: Final = 200
"""How long each try may hold up those who write."""

_PUT: Final = "INSERT INTO meta (name, value) VALUES ('ledger_key', ?1) ON CONFLICT DO UPDATE SET value = ?1"
_PUT_KEY: Final = "UPDATE upstream_keys SET sealed_key = ? WHERE key_id = ?"


class SqliteKeys(SqliteDirectory):
    """The directory's storage, with what is sealed under the master key."""

    @contextmanager
    def begin_ledger_key(self) -> Iterator[bool]:
        """One transaction, in which it is put where this gives True: of processes that start at once, one puts it."""
        with transaction(self._connection):
            yield self.fact("ledger_key") is None

    def put_ledger_key(self, sealed: bytes) -> None:
        """Before any upstream key: these are held against it."""
        self._connection.execute(_PUT, (sealed,))

    def put_sealed_key(self, key_id: str, sealed: bytes) -> None:
        self._connection.execute(_PUT_KEY, (sealed, key_id))

    def be_patient(self) -> None:
        """From now on this connection waits for other processes as long as opening does: no tenant waits for it."""
        self._connection.set_busy_timeout(OPEN_TIMEOUT_MS)

    def overwrite(self) -> None:
        """From now on what is deleted or written over becomes zeros in its page, not free space that still holds it."""
        self._connection.pragma("secure_delete", 1)

    def wipe(self) -> bool:
        """Folds the log into the database's file and cuts it off, so that nothing that was written over is left there.

        False where others read it all the time: it is written over by what comes next.
        """
        self._connection.set_busy_timeout(WIPE_PATIENCE_MS)
        for _ in range(WIPE_TRIES):
            (done,) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if done[0] == 0:
                return True
            threading.Event().wait(WIPE_PAUSE_S)
        return False
