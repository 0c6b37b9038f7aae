"""One process's beats on a ledger: numbers that only grow, each marked when it is durable.

Several processes may beat on one ledger. Each number is given out once.
"""

from pathlib import Path
from typing import Final

import apsw

from gateway.errors import LedgerClosed
from gateway.ledger.mark import Mark, beat, examine, keep_mark

_LEDGER_ID: Final = "SELECT value FROM meta WHERE name = 'ledger_id'"


class Beats:
    """Of the ledger at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ledger_id = ""
        self._last = 0

    def begin(self, connection: apsw.Connection, tick: int) -> None:
        """Looks at the mark, inside the caller's transaction, before the first beat: an old ledger is quarantined."""
        self._ledger_id = str(connection.execute(_LEDGER_ID).get or "")
        examine(connection, self._path, self._ledger_id, tick)

    def next(self, connection: apsw.Connection) -> int:
        """The next number, inside the caller's transaction."""
        return beat(connection)

    def keep(self, number: int) -> None:
        """Marks a number that is durable. LedgerError where the mark cannot be written.

        LedgerClosed where the numbers did not grow: an older file was put in the place of the one that is open.
        """
        if number <= self._last:
            raise LedgerClosed("the ledger went back: its file was replaced by an older one")
        self._last = number
        keep_mark(self._path, Mark(ledger=self._ledger_id, beat=number))
