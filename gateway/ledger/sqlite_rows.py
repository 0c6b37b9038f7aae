"""Reading orders: the statements, and from a row to an order with its content opened."""

from collections.abc import Sequence
from typing import Any, Final

import apsw
from msgspec import structs

from gateway.core.lifecycle import Outcome
from gateway.ledger.interface import NewOrder, OrderFilter, Seals, StoredAttempt, StoredOrder

TABLE: Final = "orders"

_COLUMNS: Final = """seq, order_id, tenant, outcome, cause, http_status, upstream_order_id, upstream_status,
  sealed_idempotency_key, created_ms, settled_ms, sealed_response, sealed_answer, fingerprint, version,
  settled_tick, watch_until_tick, key_digest"""

_BY_KEY: Final = f"SELECT {_COLUMNS} FROM orders WHERE tenant_id = :tenant_id AND key_digest = :key_digest"  # noqa: S608 - constants only
_BY_BODY: Final = f"""
SELECT {_COLUMNS} FROM orders
WHERE tenant_id = :tenant_id AND fingerprint = :fingerprint
  AND (settled_tick IS NULL OR settled_tick > :settled_after_tick)
ORDER BY settled_tick IS NOT NULL, outcome = 'not_placed', seq DESC LIMIT 1
"""  # noqa: S608 - constants only
_BY_ID: Final = f"SELECT {_COLUMNS} FROM orders WHERE order_id = :order_id AND :tenant_id IN (tenant_id, 0)"  # noqa: S608 - constants only
_NEWEST: Final = "ORDER BY seq DESC LIMIT :limit"
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM orders
WHERE seq < :before_seq AND (:tenant IS NULL OR tenant = :tenant) AND (:outcome IS NULL OR outcome = :outcome)
{_NEWEST}
"""  # noqa: S608 - constants only; for operators, who may wait for a scan
_PAGE_OF_TENANT: Final = f"""
SELECT {_COLUMNS} FROM orders WHERE tenant_id = :tenant_id AND seq < :before_seq
{_NEWEST}
"""  # noqa: S608 - constants only
_PAGE_OF_TENANT_AND_OUTCOME: Final = f"""
SELECT {_COLUMNS} FROM orders WHERE tenant_id = :tenant_id AND outcome = :outcome AND seq < :before_seq
{_NEWEST}
"""  # noqa: S608 - constants only
_LAST_SEQ: Final = 2**63 - 1
_ATTEMPTS: Final = "SELECT started_ms, ended_ms, evidence, status FROM attempts WHERE order_id = ? ORDER BY number"
_UNSETTLED: Final = """
SELECT outcome, count(*) FROM orders WHERE outcome IN ('queued', 'in_flight', 'unknown') GROUP BY outcome
"""


class OrderRow:
    """One row, and what decides about it before its content is opened."""

    def __init__(self, row: Sequence[Any]) -> None:
        self.row = row
        self.order_id: str = row[1]
        self.outcome: Outcome = row[3]
        self.fingerprint: bytes = row[13]
        self.version: int = row[14]
        self._settled_tick: int | None = row[15]
        self._watch_until_tick: int | None = row[16]
        self.key_digest: bytes | None = row[17]

    def expired(self, *, ttl_ms: int, tick: int) -> bool:
        """Whether its key names it no more: it settled so long ago, and nobody watches for it."""
        if self._settled_tick is None or self._settled_tick + ttl_ms > tick:
            return False
        return self._watch_until_tick is None or self._watch_until_tick <= tick

    def opened(self, connection: apsw.Connection, seals: Seals) -> StoredOrder:
        """The order. SealBroken where its content is not what was sealed here."""
        (seq, order_id, tenant, outcome, cause, http_status, upstream_order_id, upstream_status, sealed_key,
         created_ms, settled_ms, sealed_response, sealed_answer, *_) = self.row  # fmt: skip

        def content(sealed: bytes | None, column: str) -> bytes | None:
            return None if sealed is None else seals.open(sealed, table=TABLE, row=order_id, column=column)

        key = content(sealed_key, "idempotency_key")
        attempts: list[Any] = connection.execute(_ATTEMPTS, (order_id,)).fetchall()
        return StoredOrder(
            seq=seq, order_id=order_id, tenant=tenant, outcome=outcome, cause=cause, http_status=http_status,
            upstream_order_id=upstream_order_id, upstream_status=upstream_status,
            idempotency_key=None if key is None else key.decode(), created_ms=created_ms, settled_ms=settled_ms,
            attempts=tuple(
                StoredAttempt(started_ms=started, ended_ms=ended, evidence=evidence, status=status)
                for started, ended, evidence, status in attempts
            ),
            response=content(sealed_response, "response"), answer=content(sealed_answer, "answer"),
        )  # fmt: skip


def named_by_key(connection: apsw.Connection, order: NewOrder) -> OrderRow | None:
    """The row that the order's key names, expired or not."""
    values = {"tenant_id": order.tenant_id, "key_digest": order.key_digest}
    row = connection.execute(_BY_KEY, values).fetchone()
    return None if row is None else OrderRow(row)


def named_by_body(connection: apsw.Connection, order: NewOrder, tick: int) -> OrderRow | None:
    """The row that the order's body names: an unsettled one first; of those that settled in the window first what is
    placed or rejected, then the newest.
    """
    values = {
        "tenant_id": order.tenant_id,
        "fingerprint": order.fingerprint,
        "settled_after_tick": tick - order.window_ms,
    }
    row = connection.execute(_BY_BODY, values).fetchone()
    return None if row is None else OrderRow(row)


def find(connection: apsw.Connection, seals: Seals, order_id: str, tenant_id: int | None) -> StoredOrder | None:
    row = connection.execute(_BY_ID, {"order_id": order_id, "tenant_id": tenant_id or 0}).fetchone()
    return None if row is None else OrderRow(row).opened(connection, seals)


def page(connection: apsw.Connection, seals: Seals, wanted: OrderFilter) -> list[StoredOrder]:
    """A tenant's pages are read off an index, however long the ledger is."""
    statement = _PAGE
    if wanted.tenant_id is not None:
        statement = _PAGE_OF_TENANT if wanted.outcome is None else _PAGE_OF_TENANT_AND_OUTCOME
    before = _LAST_SEQ if wanted.before_seq is None else wanted.before_seq
    rows = connection.execute(statement, {**structs.asdict(wanted), "before_seq": before}).fetchall()
    return [OrderRow(row).opened(connection, seals) for row in rows]


def unsettled(connection: apsw.Connection) -> dict[Outcome, int]:
    counts: dict[Outcome, int] = {"queued": 0, "in_flight": 0, "unknown": 0}
    found: list[Any] = connection.execute(_UNSETTLED).fetchall()
    counts.update(found)
    return counts
