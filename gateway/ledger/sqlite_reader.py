"""Looking at a ledger beside whoever writes it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import apsw

from gateway.errors import LedgerError
from gateway.ledger import sqlite_rows as rows
from gateway.ledger.interface import OrderFilter, Seals, StoredOrder
from gateway.ledger.sqlite_engine import close, connect, reason_of

T = TypeVar("T")


class SqliteReader:
    """Looking at orders from one thread, beside whoever writes. Raises LedgerError."""

    def __init__(self, path: Path, seals: Seals) -> None:
        self._connection = connect(path)
        self._seals = seals

    def close(self) -> None:
        close(self._connection)

    def find(self, order_id: str, *, tenant_id: int | None) -> StoredOrder | None:
        return self.look(lambda connection: rows.find(connection, self._seals, order_id, tenant_id))

    def page(self, wanted: OrderFilter) -> Sequence[StoredOrder]:
        return self.look(lambda connection: rows.page(connection, self._seals, wanted))

    def look(self, at: Callable[[apsw.Connection], T]) -> T:
        try:
            return at(self._connection)
        except apsw.Error as fault:
            raise LedgerError(reason_of(fault)) from fault
        except UnicodeDecodeError as fault:
            raise LedgerError("a text in the ledger is damaged; see `ordergate db check`") from fault
