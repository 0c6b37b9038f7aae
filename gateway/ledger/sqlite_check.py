"""What can be wrong with a ledger's file, found by reading all of it. Nothing is mended, nothing is changed.

Three looks, each resting on the one before: is the file whole as a database; does every sealed column open in its
place; and do the rows agree with each other as the program that wrote them made sure of, the audit log's chain among
them.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from gateway.errors import SealBroken, StorageUnreachable
from gateway.ledger.interface import Seals
from gateway.ledger.sqlite_audit import verify_chain
from gateway.ledger.sqlite_engine import APPLICATION_ID, BUSY_TIMEOUT_MS
from gateway.ledger.sqlite_log import require_whole_log

MOST_FINDINGS: Final = 100
"""Of one kind. A ledger that is wrong in more places is not mended row by row."""


LOOK_THROUGH_BYTES: Final = 256 * 1024 * 1024
"""Up to here looking through the file takes about a second; beyond, a start would take too long."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. `where` is a table and a row's id, or what was looked at."""

    where: str
    what: str


# Each statement names the rows that break a promise: (table, row's id). What a reader needs to know stands beside it.
_RULES: Final[tuple[tuple[str, str], ...]] = (
    (
        "is placed without an upstream order id",
        "SELECT 'orders', order_id FROM orders WHERE outcome = 'placed' AND upstream_order_id IS NULL",
    ),
    (
        "has an upstream order id and is not placed",
        "SELECT 'orders', order_id FROM orders WHERE outcome <> 'placed' AND upstream_order_id IS NOT NULL",
    ),
    (
        "has the same upstream order id as another order of its team",
        """SELECT 'orders', order_id FROM orders NOT INDEXED
           WHERE (team_id, upstream_order_id) IN (
             SELECT team_id, upstream_order_id FROM orders NOT INDEXED WHERE upstream_order_id IS NOT NULL
             GROUP BY 1, 2 HAVING count(*) > 1)""",
    ),
    (
        "has the same idempotency key as another order of its tenant",
        """SELECT 'orders', order_id FROM orders NOT INDEXED
           WHERE (tenant_id, key_digest) IN (
             SELECT tenant_id, key_digest FROM orders NOT INDEXED WHERE key_digest IS NOT NULL
             GROUP BY 1, 2 HAVING count(*) > 1)""",
    ),
    (
        "is settled and has no moment at which it was",
        """SELECT 'orders', order_id FROM orders
           WHERE outcome IN ('placed', 'rejected', 'not_placed') AND settled_ms IS NULL""",
    ),
    (
        "is not settled and has a moment at which it was",
        """SELECT 'orders', order_id FROM orders
           WHERE outcome IN ('queued', 'in_flight', 'unknown') AND settled_ms IS NOT NULL""",
    ),
    (
        "is settled and has no tick at which it was",
        """SELECT 'orders', order_id FROM orders
           WHERE outcome IN ('placed', 'rejected', 'not_placed') AND settled_tick IS NULL""",
    ),
    (
        "is in the hands of a process, and there is nothing to do for one",
        """SELECT 'orders', order_id FROM orders
           WHERE outcome NOT IN ('queued', 'in_flight') AND owner IS NOT NULL""",
    ),
    (
        "is not settled and belongs to a team that is not there",
        """SELECT 'orders', order_id FROM orders
           WHERE outcome IN ('queued', 'in_flight', 'unknown') AND team_id NOT IN (SELECT team_id FROM teams)""",
    ),
    (
        "has lost an attempt",
        """SELECT 'orders', order_id FROM attempts GROUP BY order_id HAVING max(number) <> count(*)""",
    ),
    (
        "has an open attempt and is settled as answered",
        """SELECT DISTINCT 'orders', order_id FROM attempts JOIN orders USING (order_id)
           WHERE ended_ms IS NULL AND outcome = 'rejected'""",
    ),
    (
        "is in flight without an attempt",
        """SELECT 'orders', order_id FROM orders
           WHERE outcome = 'in_flight' AND order_id NOT IN (SELECT order_id FROM attempts)""",
    ),
)
_FACTS: Final = ("ledger_id", "ledger_key", "vault_check", "directory_version")

_EVERYTHING: Final[Mapping[str, str]] = {
    "attempts": "SELECT * FROM attempts",
    "audit": "SELECT * FROM audit",
    "meta": "SELECT * FROM meta",
    "orders": "SELECT * FROM orders",
    "removed_tenants": "SELECT * FROM removed_tenants",
    "strays": "SELECT * FROM strays",
    "teams": "SELECT * FROM teams",
    "tenants": "SELECT * FROM tenants",
    "tokens": "SELECT * FROM tokens",
    "upstream_keys": "SELECT * FROM upstream_keys",
}
"""How a table is read whole; one that is not here is not looked through for texts."""

_SEALED_ORDERS: Final = "SELECT order_id, sealed_idempotency_key, sealed_response, sealed_answer FROM orders"
_SEALED_KEYS: Final = "SELECT team_id || '/' || key_id, sealed_key FROM upstream_keys"
SEALED: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("orders", _SEALED_ORDERS, ("idempotency_key", "response", "answer")),
    ("upstream_keys", _SEALED_KEYS, ("key",)),
)
"""Table, how its sealed columns are read behind the row's id, and under which names they were sealed."""


def check_file(path: Path) -> list[Finding]:
    """Whether the file is a whole database and a ledger's: SQLite's own reading of every page and every index.

    Changes nothing, migrates nothing. apsw.Error of a file that cannot be opened at all is a finding too.
    """
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    except apsw.Error as fault:
        return [Finding(where="file", what=_one_line(str(fault)))]
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # who only looks leaves the log as it is
        return [*_whole(connection), *_log(connection, path), *_links(connection), *_texts(connection)]
    except (apsw.CorruptError, apsw.NotADBError, apsw.IOError, apsw.SQLError, UnicodeDecodeError) as fault:
        return [Finding(where="file", what=_one_line(str(fault)))]
    finally:
        connection.close()


def require_sound(path: Path) -> None:
    """Before a ledger is served from: StorageUnreachable where its file is damaged. A large one is not looked at."""
    if path.stat().st_size > LOOK_THROUGH_BYTES:
        return
    findings = check_file(path)
    if findings:
        raise StorageUnreachable(f"{path}: damaged: {findings[0].what}; see `ordergate db check`")


def _texts(connection: apsw.Connection) -> Iterator[Finding]:
    """SQLite takes any bytes for a text."""
    names: list[Any] = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    here = {str(table) for (table,) in names}
    for table in sorted(here & set(_EVERYTHING)):
        try:
            for _ in connection.execute(_EVERYTHING[table]):
                pass
        except UnicodeDecodeError:
            yield Finding(where=table, what="holds a text that is none")


def check_rows(connection: apsw.Connection, seals: Seals) -> list[Finding]:
    """Whether every sealed column opens in its place, the rows agree, and the audit log's chain is whole.

    As of one moment, beside whoever writes.
    """
    with connection:
        found = [
            *_sealed(connection, seals),
            *_rules(connection),
            *_facts(connection),
            *_audit(connection, seals),
        ]
    return found  # noqa: RET504 - mypy cannot know that apsw's block never swallows an error


def count_orders(connection: apsw.Connection) -> int:
    found: int = connection.execute("SELECT count(*) FROM orders").get
    return found


def _whole(connection: apsw.Connection) -> Iterator[Finding]:
    if connection.pragma("application_id") != APPLICATION_ID:
        yield Finding(where="file", what="is another program's database, or none")
    for (said,) in connection.execute("PRAGMA integrity_check"):
        if said != "ok":
            yield Finding(where="file", what=_one_line(str(said)))


def _log(connection: apsw.Connection, path: Path) -> Iterator[Finding]:
    try:
        require_whole_log(connection, path)
    except StorageUnreachable:
        yield Finding(where="write-ahead log", what="holds commits that cannot be read, behind one that is damaged")


def _links(connection: apsw.Connection) -> Iterator[Finding]:
    for table, row, parent, _ in islice(connection.execute("PRAGMA foreign_key_check"), MOST_FINDINGS):
        yield Finding(where=f"{table} {row or ''}".strip(), what=f"refers to a row of {parent} that is not there")


def _sealed(connection: apsw.Connection, seals: Seals) -> Iterator[Finding]:
    for table, statement, columns in SEALED:
        yield from islice(_unopened(connection, seals, table, statement, columns), MOST_FINDINGS)


def _unopened(
    connection: apsw.Connection, seals: Seals, table: str, statement: str, columns: tuple[str, ...]
) -> Iterator[Finding]:
    rows: Iterator[Any] = connection.execute(statement)
    for row_id, *sealed in rows:
        for column, content in zip(columns, sealed, strict=True):
            try:
                if content is not None:
                    seals.open(content, table=table, row=row_id, column=column)
            except SealBroken as fault:
                yield Finding(where=f"{table} {row_id}", what=str(fault))


def _rules(connection: apsw.Connection) -> Iterator[Finding]:
    for what, statement in _RULES:
        for table, row in islice(connection.execute(statement), MOST_FINDINGS):
            yield Finding(where=f"{table} {row}", what=what)


def _facts(connection: apsw.Connection) -> Iterator[Finding]:
    rows: list[Any] = connection.execute("SELECT name FROM meta").fetchall()
    known = {name for (name,) in rows}
    for name in _FACTS:
        if name not in known:
            yield Finding(where=f"meta {name}", what="is not there")


def _audit(connection: apsw.Connection, seals: Seals) -> Iterator[Finding]:
    broken = verify_chain(connection, seals).broken
    if broken is not None:
        yield Finding(where=f"audit {broken.number}", what=broken.what)


def _one_line(text: str) -> str:
    """SQLite quotes whole statements."""
    return " ".join(text.split())
