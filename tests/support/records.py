"""The records of a real run, read from where they are, for `tests/support/promise.py` to check.

watch_history(path)                       # before the first order: keeps every write of an order's row
...
found = records_of(told=answers, sandbox=sandbox, ledger=path, seals=vault_of(folder))
assert not promise.broken(found)
"""

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from gateway.broker.key_file import KeyFile
from gateway.broker.master_key import Masters
from gateway.broker.vault import LedgerKey, Vault
from gateway.clock import SystemClock
from gateway.ledger.interface import Seals
from gateway.sandbox.control import show_connection, show_order
from gateway.sandbox.thread import SandboxThread
from tests.support.audit_log import audit_log_broken
from tests.support.promise import AttemptRow, Change, Post, Records, Row, Taken, Told

T = TypeVar("T")

ORDER_ID: Final = re.compile(rb'"gatewayOrderId"\s*:\s*"([^"]+)"')
_LENGTH: Final = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_KEY: Final = re.compile(rb"\r\nx-api-key:\s*([^\r]*)", re.IGNORECASE)
_COLUMNS: Final = (
    "order_id", "tenant", "team_id", "outcome", "version", "http_status", "upstream_order_id",
    "sealed_idempotency_key", "sealed_response", "sealed_answer",
)  # fmt: skip
_ROWS: Final = f"SELECT {', '.join(_COLUMNS)} FROM orders ORDER BY seq"  # noqa: S608 - constants only
_ATTEMPTS: Final = "SELECT order_id, started_ms, ended_ms, evidence, status FROM attempts ORDER BY order_id, number"
_HISTORY: Final = """
CREATE TABLE IF NOT EXISTS history_for_tests (
  at INTEGER PRIMARY KEY AUTOINCREMENT, order_id TEXT NOT NULL, version INTEGER NOT NULL, outcome TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS history_of_new AFTER INSERT ON orders BEGIN
  INSERT INTO history_for_tests (order_id, version, outcome) VALUES (new.order_id, new.version, new.outcome);
END;
CREATE TRIGGER IF NOT EXISTS history_of_changed AFTER UPDATE OF outcome, version ON orders BEGIN
  INSERT INTO history_for_tests (order_id, version, outcome) VALUES (new.order_id, new.version, new.outcome);
END;
CREATE TRIGGER IF NOT EXISTS history_of_gone AFTER DELETE ON orders BEGIN
  INSERT INTO history_for_tests (order_id, version, outcome) VALUES (old.order_id, old.version, 'forgotten');
END;
"""


def watch_history(ledger: Path) -> None:
    """From now on the ledger keeps every write of an order's row, in that write's own transaction."""
    _at(ledger, lambda connection: connection.execute(_HISTORY).fetchall(), flags=apsw.SQLITE_OPEN_READWRITE)


def changes_of(ledger: Path) -> list[Change] | None:
    """Every write since `watch_history`, oldest first; None where it was never called."""

    def look(connection: apsw.Connection) -> list[Change] | None:
        kept = "SELECT 1 FROM sqlite_schema WHERE name = 'history_for_tests'"
        if not connection.execute(kept).fetchall():
            return None
        statement = "SELECT order_id, version, outcome FROM history_for_tests ORDER BY at"
        rows: list[Any] = connection.execute(statement).fetchall()
        return [Change(order_id=order_id, version=version, outcome=outcome) for order_id, version, outcome in rows]

    return _at(ledger, look)


def rows_of(ledger: Path, seals: Seals | None = None) -> list[Row]:
    """Every order, straight from the ledger's file; with its content where `seals` can open it."""

    def look(connection: apsw.Connection) -> list[Row]:
        with connection:  # one moment for both tables
            found: list[Any] = connection.execute(_ROWS).fetchall()
            attempts: dict[Any, list[AttemptRow]] = {}
            ends: list[Any] = connection.execute(_ATTEMPTS).fetchall()
            for order_id, started, ended, evidence, status in ends:
                attempt = AttemptRow(started_ms=started, ended_ms=ended, evidence=evidence, status=status)
                attempts.setdefault(order_id, []).append(attempt)
        return [_row(dict(zip(_COLUMNS, row, strict=True)), attempts, seals) for row in found]

    return _at(ledger, look)


def strays_of(ledger: Path) -> list[tuple[str, str]]:
    """What was found at OfferGrid and should not be there: the order's id and the kind (`duplicate`, `late`)."""
    statement = "SELECT order_id, kind FROM strays ORDER BY seen_ms"
    return _at(ledger, lambda connection: [(str(one), str(kind)) for one, kind in connection.execute(statement)])


def audited(ledger: Path, subject: str) -> int:
    """How many rows of the audit log are about it."""
    return count_of(ledger, "SELECT count(*) FROM audit WHERE subject = ?", subject)


def count_of(ledger: Path, statement: str, *values: str) -> int:
    """The one number that the statement finds."""
    return _at(ledger, lambda connection: int(str(connection.execute(statement, values).get)))


def _row(columns: Mapping[str, Any], attempts: Mapping[str, Sequence[AttemptRow]], seals: Seals | None) -> Row:
    order_id = columns["order_id"]

    def opened(column: str) -> bytes | None:
        sealed = columns[f"sealed_{column}"]
        if seals is None or sealed is None:
            return None
        return seals.open(sealed, table="orders", row=order_id, column=column)

    key = opened("idempotency_key")
    return Row(
        order_id=order_id,
        tenant=columns["tenant"],
        team_id=columns["team_id"],
        outcome=columns["outcome"],
        version=columns["version"],
        http_status=columns["http_status"],
        upstream_order_id=columns["upstream_order_id"],
        idempotency_key=None if key is None else key.decode(),
        attempts=tuple(attempts.get(order_id, ())),
        content=seals is not None,
        response=opened("response"),
        answer=opened("answer"),
    )


def vault_of(folder: Path) -> Vault:
    """What opens the content of the ledger in `folder/var`, whose master key is beside it."""
    facts = "SELECT value FROM meta WHERE name IN ('ledger_id', 'ledger_key') ORDER BY name"
    found: Any = _at(folder / "var/ordergate.db", lambda connection: connection.execute(facts).fetchall())
    (ledger_id,), (sealed,) = found
    masters = Masters(KeyFile(folder / "var/master.key", SystemClock()).read())
    return Vault(LedgerKey.opened(sealed, masters, ledger_id=ledger_id), SystemClock(), masters)


def taken_of(shown: Iterable[Mapping[str, Any]]) -> list[Taken]:
    """From `GET /sandbox/orders`. The mark is the order's `notes`."""
    found = []
    for order in shown:
        metadata = order["metadata"] or {}
        notes = re.search(r'"notes"\s*:\s*"([^"]*)"', order["rawBody"])
        found.append(
            Taken(
                upstream_order_id=order["orderId"],
                order_id=metadata.get("gatewayOrderId"),
                tenant=metadata.get("gatewayTenant"),
                mark=notes[1] if notes else None,
                upstream_key=order["key"],
                placed_ms=order["placedWallMs"],
            )
        )
    return found


def posts_of(shown: Iterable[Mapping[str, Any]]) -> list[Post]:
    """From the raw log, `GET /sandbox/connections`: every `POST` of which a byte arrived."""
    return [post for connection in shown for post in _posts(connection)]


def _posts(connection: Mapping[str, Any]) -> Iterator[Post]:
    chunks = [chunk for chunk in connection["chunks"] if chunk["direction"] == "in"]
    if any(chunk["base64"] is None for chunk in chunks):
        raise ValueError("the raw log was full: this run is too long for it")
    pieces = [base64.b64decode(chunk["base64"]) for chunk in chunks]
    raw, at = b"".join(pieces), 0
    while at < len(raw):
        head = raw.find(b"\r\n\r\n", at)
        begin, size = raw[at : head if head >= 0 else None], len(raw) - at
        length = _LENGTH.search(begin) if head >= 0 else None
        end = len(raw) + 1 if head < 0 else head + 4 + (int(length[1]) if length else 0)
        if raw[at : at + 4] == b"POST"[:size]:
            order_id, key = ORDER_ID.search(raw, at, end), _KEY.search(begin)
            yield Post(
                order_id=order_id[1].decode() if order_id else None,
                first_byte_ms=_arrived(chunks, pieces, at),
                whole=end <= len(raw),
                upstream_key=key[1].decode() if key else None,
            )
        at = end


def _arrived(chunks: Sequence[Mapping[str, Any]], pieces: Sequence[bytes], at: int) -> int:
    """Wall milliseconds at which the byte at that offset was read."""
    for chunk, piece in zip(chunks, pieces, strict=True):
        if at < len(piece):
            return int(chunk["wallMs"])
        at -= len(piece)
    raise AssertionError("the offset is inside the pieces")


def records_of(
    *,
    told: Sequence[Told],
    sandbox: SandboxThread,
    ledger: Path,
    seals: Seals | None = None,
    late: frozenset[str] = frozenset(),
    resolved: frozenset[str] = frozenset(),
) -> Records:
    """The three records of a run against a sandbox of this process.

    The ledger is read last: what OfferGrid holds by then must be in it.
    """
    orders, connections = sandbox.call(
        lambda box: (
            [show_order(order) for order in box.orders],
            [show_connection(log) for log in box.connections],
        )
    )
    return Records(
        told=told,
        taken=taken_of(orders),
        posts=posts_of(connections),
        rows=rows_of(ledger, seals),
        changes=changes_of(ledger),
        late=late,
        resolved=resolved,
        audit=() if seals is None else audit_log_broken(ledger, seals),
    )


def files_under(*folders: Path, but: Iterable[str] = ()) -> dict[str, bytes]:
    """The bytes of every file below the folders, by name, for `canaries_found`; `but` are names to leave out."""
    return {
        str(file): file.read_bytes()
        for folder in folders
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in set(but)
    }


def _at(ledger: Path, look: Callable[[apsw.Connection], T], flags: int = apsw.SQLITE_OPEN_READONLY) -> T:
    connection = apsw.Connection(str(ledger), flags=flags)
    try:
        connection.set_busy_timeout(10_000)
        return look(connection)
    finally:
        connection.close()
