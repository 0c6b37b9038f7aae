"""The orders' statements. Each write names the state and the version that it expects.

Content is sealed here, in the writer's thread or the reader's, so that nothing above ever holds a sealed record and
nothing below ever holds a plain one.
"""

from collections.abc import Sequence
from typing import Any, Final

import apsw
from msgspec import structs

from gateway.core.lifecycle import Outcome, may_follow
from gateway.errors import LedgerStale, UpstreamOrderTaken
from gateway.ledger.interface import (
    AttemptEnd,
    AttemptStart,
    Claim,
    Claimed,
    Known,
    NewOrder,
    OrderFilter,
    Seals,
    Settlement,
    StoredAttempt,
    StoredOrder,
)

TABLE: Final = "orders"

_COLUMNS: Final = """seq, order_id, tenant, outcome, cause, http_status, upstream_order_id, upstream_status,
  sealed_idempotency_key, created_ms, settled_ms, sealed_response, sealed_answer, fingerprint, version"""

_BY_KEY: Final = f"SELECT {_COLUMNS} FROM orders WHERE tenant_id = :tenant_id AND key_digest = :key_digest"  # noqa: S608 - constants only
_BY_BODY: Final = f"""
SELECT {_COLUMNS} FROM orders
WHERE tenant_id = :tenant_id AND fingerprint = :fingerprint
  AND (settled_ms IS NULL OR settled_ms >= :settled_since_ms)
ORDER BY settled_ms IS NOT NULL, seq DESC LIMIT 1
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

_CLAIM: Final = """
INSERT INTO orders (order_id, tenant_id, tenant, team_id, outcome, version, fingerprint, key_digest,
                    sealed_idempotency_key, created_ms)
VALUES (:order_id, :tenant_id, :tenant, :team_id, 'in_flight', 1, :fingerprint, :key_digest,
        :sealed_key, :created_ms)
"""
_CLAIM_AGAIN: Final = """
UPDATE orders SET outcome = 'in_flight', version = version + 1, settled_ms = NULL, cause = NULL, http_status = NULL,
                  sealed_response = NULL, sealed_answer = NULL
WHERE order_id = :order_id AND version = :version AND outcome = 'not_placed'
"""
_OPEN_ATTEMPT: Final = """
INSERT INTO attempts (order_id, number, key_id, started_ms)
SELECT :order_id, 1 + coalesce(max(number), 0), :key_id, :started_ms FROM attempts WHERE order_id = :order_id
"""
_CLOSE_ATTEMPT: Final = """
UPDATE attempts SET ended_ms = :ended_ms, evidence = :evidence, status = :status
WHERE order_id = :order_id AND ended_ms IS NULL
"""
_NEXT: Final = """
UPDATE orders SET version = version + 1
WHERE order_id = :order_id AND version = :version AND outcome = 'in_flight'
"""
_SETTLE: Final = """
UPDATE orders SET outcome = :outcome, version = version + 1, cause = :cause, http_status = :http_status,
                  upstream_order_id = :upstream_order_id, upstream_status = :upstream_status,
                  sealed_response = :sealed_response, sealed_answer = :sealed_answer, settled_ms = :settled_ms
WHERE order_id = :order_id AND version = :version AND outcome = 'in_flight'
"""
_TAKEN: Final = """
SELECT 1 FROM orders AS mine JOIN orders AS other ON other.team_id = mine.team_id
WHERE mine.order_id = :order_id AND other.upstream_order_id = :upstream_order_id AND other.order_id <> :order_id
"""
_RECOVER: Final = """
UPDATE orders SET outcome = 'unknown', version = version + 1, cause = 'broken', http_status = 502
WHERE outcome = 'in_flight'
"""
_UNSETTLED: Final = """
SELECT outcome, count(*) FROM orders WHERE outcome IN ('queued', 'in_flight', 'unknown') GROUP BY outcome
"""


def claim(connection: apsw.Connection, seals: Seals, order: NewOrder, attempt: AttemptStart) -> Claim:
    """First wins: see `Ledger.claim`."""
    row = _same_order(connection, seals, order)
    if row is not None:
        return _known(connection, seals, order, row) or _claim_again(connection, order, attempt, row)
    key = None if order.idempotency_key is None else order.idempotency_key.encode()
    digest = None if key is None else key_digest(seals, order.tenant_id, key)
    sealed_key = None if key is None else seals.seal(key, table=TABLE, row=order.order_id, column="idempotency_key")
    connection.execute(_CLAIM, {
        "order_id": order.order_id, "tenant_id": order.tenant_id, "tenant": order.tenant, "team_id": order.team_id,
        "fingerprint": order.fingerprint, "key_digest": digest, "sealed_key": sealed_key,
        "created_ms": order.created_ms,
    })  # fmt: skip
    return _open_attempt(connection, Claimed(order_id=order.order_id, version=1), attempt)


def recall(connection: apsw.Connection, seals: Seals, order: NewOrder) -> Known | None:
    """What is there already of this order and is not to be sent: see `Ledger.recall`."""
    row = _same_order(connection, seals, order)
    return None if row is None else _known(connection, seals, order, row)


def _same_order(connection: apsw.Connection, seals: Seals, order: NewOrder) -> Sequence[Any] | None:
    """The row that the order's key names, or, where it has none, the one that its body does."""
    if order.idempotency_key is not None:
        digest = key_digest(seals, order.tenant_id, order.idempotency_key.encode())
        return connection.execute(_BY_KEY, {"tenant_id": order.tenant_id, "key_digest": digest}).fetchone()
    values = {
        "tenant_id": order.tenant_id,
        "fingerprint": order.fingerprint,
        "settled_since_ms": order.settled_since_ms,
    }
    return connection.execute(_BY_BODY, values).fetchone()


def _known(connection: apsw.Connection, seals: Seals, order: NewOrder, row: Sequence[Any]) -> Known | None:
    """The order that is there, or None where it is `not_placed` and may be tried again."""
    stored = _order_of(connection, seals, row)
    same_body = row[-2] == order.fingerprint
    if same_body and stored.outcome == "not_placed":
        return None
    return Known(order=stored, same_body=same_body, by_body=order.idempotency_key is None)


def _claim_again(
    connection: apsw.Connection, order: NewOrder, attempt: AttemptStart, row: Sequence[Any]
) -> Claimed:
    order_id, version = row[1], row[-1]
    _change(connection, _CLAIM_AGAIN, {"order_id": order_id, "version": version})
    again = Claimed(order_id=order_id, version=version + 1, by_body=order.idempotency_key is None)
    return _open_attempt(connection, again, attempt)


def key_digest(seals: Seals, tenant_id: int, key: bytes) -> bytes:
    """By which a tenant's idempotency key is found again without being readable."""
    return seals.mac("idempotency-key", b"%d:%b" % (tenant_id, key))


def next_attempt(
    connection: apsw.Connection, claimed: Claimed, ended: AttemptEnd, attempt: AttemptStart
) -> Claimed:
    """Closes one attempt and opens the next."""
    _change(connection, _NEXT, {"order_id": claimed.order_id, "version": claimed.version})
    _close_attempt(connection, claimed, ended)
    return _open_attempt(connection, structs.replace(claimed, version=claimed.version + 1), attempt)


def settle(
    connection: apsw.Connection, seals: Seals, claimed: Claimed, ended: AttemptEnd, settlement: Settlement
) -> None:
    """Writes how the order ended."""
    assert may_follow("in_flight", settlement.outcome, "owner")
    sealed = {
        f"sealed_{column}": None if content is None
        else seals.seal(content, table=TABLE, row=claimed.order_id, column=column)
        for column, content in (("response", settlement.response), ("answer", settlement.answer))
    }  # fmt: skip
    taken = {"order_id": claimed.order_id, "upstream_order_id": settlement.upstream_order_id}
    if settlement.upstream_order_id is not None and connection.execute(_TAKEN, taken).fetchone():
        raise UpstreamOrderTaken(f"OfferGrid answered order {claimed.order_id} with another order's id")
    _change(connection, _SETTLE, {
        "order_id": claimed.order_id, "version": claimed.version, "outcome": settlement.outcome,
        "cause": settlement.cause, "http_status": settlement.http_status,
        "upstream_order_id": settlement.upstream_order_id, "upstream_status": settlement.upstream_status,
        "settled_ms": None if settlement.outcome == "unknown" else ended.ended_ms, **sealed,
    })  # fmt: skip
    _close_attempt(connection, claimed, ended)


def recover(connection: apsw.Connection) -> int:
    """What a process that is gone left in flight: nobody saw whether it was sent. Returns how many there were."""
    connection.execute(_RECOVER)
    return connection.changes()


def find(connection: apsw.Connection, seals: Seals, order_id: str, tenant_id: int | None) -> StoredOrder | None:
    row = connection.execute(_BY_ID, {"order_id": order_id, "tenant_id": tenant_id or 0}).fetchone()
    return None if row is None else _order_of(connection, seals, row)


def page(connection: apsw.Connection, seals: Seals, wanted: OrderFilter) -> list[StoredOrder]:
    """A tenant's pages are read off an index, however long the ledger is."""
    statement = _PAGE
    if wanted.tenant_id is not None:
        statement = _PAGE_OF_TENANT if wanted.outcome is None else _PAGE_OF_TENANT_AND_OUTCOME
    before = _LAST_SEQ if wanted.before_seq is None else wanted.before_seq
    rows = connection.execute(statement, {**structs.asdict(wanted), "before_seq": before}).fetchall()
    return [_order_of(connection, seals, row) for row in rows]


def unsettled(connection: apsw.Connection) -> dict[Outcome, int]:
    counts: dict[Outcome, int] = {"queued": 0, "in_flight": 0, "unknown": 0}
    found: list[Any] = connection.execute(_UNSETTLED).fetchall()
    counts.update(found)
    return counts


def _open_attempt(connection: apsw.Connection, claimed: Claimed, attempt: AttemptStart) -> Claimed:
    connection.execute(
        _OPEN_ATTEMPT,
        {"order_id": claimed.order_id, "key_id": attempt.key_id, "started_ms": attempt.started_ms},
    )
    return claimed


def _close_attempt(connection: apsw.Connection, claimed: Claimed, ended: AttemptEnd) -> None:
    connection.execute(
        _CLOSE_ATTEMPT,
        {
            "order_id": claimed.order_id,
            "ended_ms": ended.ended_ms,
            "evidence": ended.evidence,
            "status": ended.status,
        },
    )


def _change(connection: apsw.Connection, statement: str, values: dict[str, Any]) -> None:
    """A compare-and-set that must hit: a miss means that somebody else moved the order, and nothing is written."""
    connection.execute(statement, values)
    if connection.changes() != 1:
        raise LedgerStale(f"order {values['order_id']} is not at version {values['version']} any more")


def _order_of(connection: apsw.Connection, seals: Seals, row: Sequence[Any]) -> StoredOrder:
    (seq, order_id, tenant, outcome, cause, http_status, upstream_order_id, upstream_status,
     sealed_key, created_ms, settled_ms, sealed_response, sealed_answer, _fingerprint, _version) = row  # fmt: skip

    def opened(sealed: bytes | None, column: str) -> bytes | None:
        return None if sealed is None else seals.open(sealed, table=TABLE, row=order_id, column=column)

    key = opened(sealed_key, "idempotency_key")
    attempts: list[Any] = connection.execute(_ATTEMPTS, (order_id,)).fetchall()
    return StoredOrder(
        seq=seq, order_id=order_id, tenant=tenant, outcome=outcome, cause=cause, http_status=http_status,
        upstream_order_id=upstream_order_id, upstream_status=upstream_status,
        idempotency_key=None if key is None else key.decode(), created_ms=created_ms, settled_ms=settled_ms,
        attempts=tuple(
            StoredAttempt(started_ms=started, ended_ms=ended, evidence=evidence, status=status)
            for started, ended, evidence, status in attempts
        ),
        response=opened(sealed_response, "response"), answer=opened(sealed_answer, "answer"),
    )  # fmt: skip
