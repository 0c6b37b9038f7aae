"""Writing orders. Each statement names the state and the version that it expects.

Content is sealed here, in the writer's thread, so that nothing above ever holds a sealed record and nothing below ever
holds a plain one.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

import apsw
from msgspec import structs

from gateway.core.lifecycle import may_follow
from gateway.errors import LedgerStale, UpstreamOrderTaken
from gateway.ledger.interface import (
    AttemptEnd,
    AttemptStart,
    Claim,
    Claimed,
    Known,
    NewOrder,
    Seals,
    Settlement,
)
from gateway.ledger.mark import quarantine_of
from gateway.ledger.sqlite_rows import TABLE, OrderRow, named_by_body, named_by_key

_CLAIM: Final = """
INSERT INTO orders (order_id, tenant_id, tenant, team_id, outcome, version, fingerprint, key_digest,
                    sealed_idempotency_key, created_ms, created_tick, owner)
VALUES (:order_id, :tenant_id, :tenant, :team_id, :outcome, 1, :fingerprint, :key_digest,
        :sealed_key, :created_ms, :tick, :owner)
"""
_CLAIM_AGAIN: Final = """
UPDATE orders SET outcome = :outcome, version = version + 1, owner = :owner, settled_ms = NULL, settled_tick = NULL,
                  cause = NULL, http_status = NULL, sealed_response = NULL, sealed_answer = NULL
WHERE order_id = :order_id AND version = :version AND outcome = 'not_placed'
"""
_UNBIND: Final = """
UPDATE orders SET key_digest = NULL, sealed_idempotency_key = NULL, version = version + 1
WHERE order_id = :order_id AND version = :version
"""
_START: Final = """
UPDATE orders SET outcome = 'in_flight', version = version + 1
WHERE order_id = :order_id AND version = :version AND outcome = 'queued' AND owner = :owner
"""
_OPEN_ATTEMPT: Final = """
INSERT INTO attempts (order_id, number, key_id, started_ms)
SELECT :order_id, 1 + coalesce(max(number), 0), :key_id, :started_ms FROM attempts WHERE order_id = :order_id
"""
_CLOSE_ATTEMPT: Final = """
UPDATE attempts SET ended_ms = :ended_ms, evidence = :evidence, status = :status
WHERE order_id = :order_id AND ended_ms IS NULL
  -- Not an earlier one that a dead process left open: nobody saw how that ended.
  AND number = (SELECT max(number) FROM attempts WHERE order_id = :order_id)
"""
_NEXT: Final = """
UPDATE orders SET version = version + 1
WHERE order_id = :order_id AND version = :version AND outcome = 'in_flight' AND owner = :owner
"""
_SETTLE: Final = """
UPDATE orders SET outcome = :outcome, version = version + 1, owner = NULL, cause = :cause, http_status = :http_status,
                  upstream_order_id = :upstream_order_id, upstream_status = :upstream_status,
                  sealed_response = :sealed_response, sealed_answer = :sealed_answer,
                  settled_ms = :settled_ms, settled_tick = :settled_tick, unknown_tick = :unknown_tick
WHERE order_id = :order_id AND version = :version AND outcome = :before AND owner = :owner
"""
_TAKEN: Final = """
SELECT 1 FROM orders AS mine JOIN orders AS other ON other.team_id = mine.team_id
WHERE mine.order_id = :order_id AND other.upstream_order_id = :upstream_order_id AND other.order_id <> :order_id
"""
_HELD: Final = """
SELECT order_id, version, coalesce(owner, 0) FROM orders WHERE outcome IN ('queued', 'in_flight')
"""
_RECOVER_SENT: Final = """
UPDATE orders SET outcome = 'unknown', version = version + 1, owner = NULL, cause = 'broken', http_status = 502,
                  unknown_tick = :tick
WHERE order_id = :order_id AND version = :version AND outcome = 'in_flight'
"""
_RECOVER_QUEUED: Final = """
UPDATE orders SET outcome = 'not_placed', version = version + 1, owner = NULL, cause = 'gone',
                  settled_ms = :settled_ms, settled_tick = :settled_tick
WHERE order_id = :order_id AND version = :version AND outcome = 'queued'
"""


class HeldOrder(NamedTuple):
    """An order that some process has in hand. `owner` 0 stands for none, which lives never."""

    order_id: str
    version: int
    owner: int


class OrderWrites:
    """The writes of one process, which holds `epoch`. `tick` is the ledger's time."""

    def __init__(self, seals: Seals, epoch: int, tick: Callable[[], int]) -> None:
        self._seals = seals
        self._epoch = epoch
        self._tick = tick
        self._claimers: dict[str, str] = {}  # whose request claimed the order; written before the claim is durable

    def claim(self, connection: apsw.Connection, order: NewOrder, attempt: AttemptStart | None) -> Claim:
        """First wins: see `Ledger.claim`."""
        row = self._same_order(connection, order)
        if row is not None and order.key_digest is not None and row.expired(ttl_ms=order.ttl_ms, tick=self._tick()):
            _change(connection, _UNBIND, {"order_id": row.order_id, "version": row.version})
            row = None
        if row is None:
            claimed = self._claim_new(connection, order, attempt)
        else:
            known = self._known(connection, order, row)
            if known is not None:
                return known
            claimed = self._claim_again(connection, order, attempt, row)
        if attempt is not None:
            _open_attempt(connection, claimed, attempt)
        self._claimers[claimed.order_id] = order.request_id
        return claimed

    def recall(self, connection: apsw.Connection, order: NewOrder) -> Known | None:
        """What is there already of this order and is not to be sent: see `Ledger.recall`."""
        row = self._same_order(connection, order)
        if row is None or (order.key_digest is not None and row.expired(ttl_ms=order.ttl_ms, tick=self._tick())):
            return None
        return self._known(connection, order, row)

    def start(self, connection: apsw.Connection, claimed: Claimed, attempt: AttemptStart) -> Claimed:
        """`queued` → `in_flight`."""
        self._move(connection, _START, claimed)
        started = _later(claimed)
        _open_attempt(connection, started, attempt)
        return started

    def next_attempt(
        self, connection: apsw.Connection, claimed: Claimed, ended: AttemptEnd, attempt: AttemptStart
    ) -> Claimed:
        """Closes one attempt and opens the next."""
        self._move(connection, _NEXT, claimed)
        _close_attempt(connection, claimed, ended)
        following = _later(claimed)
        _open_attempt(connection, following, attempt)
        return following

    def settle(
        self, connection: apsw.Connection, claimed: Claimed, ended: AttemptEnd | None, settlement: Settlement,
        settled_ms: int,
    ) -> None:  # fmt: skip
        """Writes how the order ended; `ended` None where it was still queued."""
        before: Any = "queued" if ended is None else "in_flight"
        assert may_follow(before, settlement.outcome, "owner")
        sealed = {
            f"sealed_{column}": None if content is None
            else self._seals.seal(content, table=TABLE, row=claimed.order_id, column=column)
            for column, content in (("response", settlement.response), ("answer", settlement.answer))
        }  # fmt: skip
        taken = {"order_id": claimed.order_id, "upstream_order_id": settlement.upstream_order_id}
        if settlement.upstream_order_id is not None and connection.execute(_TAKEN, taken).fetchone():
            raise UpstreamOrderTaken(f"OfferGrid answered order {claimed.order_id} with another order's id")
        open_still = settlement.outcome == "unknown"
        self._move(connection, _SETTLE, claimed, {
            "before": before, "outcome": settlement.outcome,
            "cause": settlement.cause, "http_status": settlement.http_status,
            "upstream_order_id": settlement.upstream_order_id, "upstream_status": settlement.upstream_status,
            "settled_ms": None if open_still else settled_ms,
            "settled_tick": None if open_still else self._tick(),
            "unknown_tick": self._tick() if open_still else None, **sealed,
        })  # fmt: skip
        if ended is not None:
            _close_attempt(connection, claimed, ended)

    def forget_claimers(self, hands: Collection[str]) -> None:
        """Of orders that are in nobody's hand here any more."""
        for order_id, request_id in list(self._claimers.items()):
            if request_id not in hands:
                self._claimers.pop(order_id, None)

    def is_let_go(self, order: HeldOrder, hands: Collection[str]) -> bool:
        """Whether it is this process's own, and nothing that goes on here is about it."""
        mine = order.owner == self._epoch
        return mine and order.order_id not in hands and self._claimers.get(order.order_id) not in hands

    def recover(self, connection: apsw.Connection, left: Sequence[HeldOrder], settled_ms: int) -> tuple[int, int]:
        """What nobody has in hand any more. Of what was in flight nobody saw whether it was sent; of what was queued
        nothing was. Returns how many became `unknown`, and how many `not_placed`.

        Nothing while the ledger is in quarantine: what it calls queued may have been sent since, as a rejoin will find.
        """
        if quarantine_of(connection) is not None:
            return 0, 0
        unknown = not_placed = 0
        for order in left:
            expected = {"order_id": order.order_id, "version": order.version}
            connection.execute(_RECOVER_SENT, {**expected, "tick": self._tick()})
            unknown += connection.changes()
            values = {**expected, "settled_ms": settled_ms, "settled_tick": self._tick()}
            connection.execute(_RECOVER_QUEUED, values)
            not_placed += connection.changes()
        return unknown, not_placed

    def _same_order(self, connection: apsw.Connection, order: NewOrder) -> OrderRow | None:
        if order.key_digest is not None:
            return named_by_key(connection, order)
        return named_by_body(connection, order, self._tick())

    def _known(self, connection: apsw.Connection, order: NewOrder, row: OrderRow) -> Known | None:
        """The order that is there, or None where it is `not_placed` and may be tried again."""
        same_body = row.fingerprint == order.fingerprint
        if same_body and row.outcome == "not_placed":
            return None
        stored = row.opened(connection, self._seals)
        return Known(order=stored, same_body=same_body, by_body=order.key_digest is None)

    def _claim_new(self, connection: apsw.Connection, order: NewOrder, attempt: AttemptStart | None) -> Claimed:
        sealed_key = None
        if order.idempotency_key is not None:
            key = order.idempotency_key.encode()
            sealed_key = self._seals.seal(key, table=TABLE, row=order.order_id, column="idempotency_key")
        connection.execute(_CLAIM, {
            "order_id": order.order_id, "tenant_id": order.tenant_id, "tenant": order.tenant,
            "team_id": order.team_id, "outcome": "queued" if attempt is None else "in_flight",
            "fingerprint": order.fingerprint, "key_digest": order.key_digest, "sealed_key": sealed_key,
            "created_ms": order.created_ms, "tick": self._tick(), "owner": self._epoch,
        })  # fmt: skip
        return Claimed(order_id=order.order_id, version=1, key_digest=order.key_digest)

    def _claim_again(
        self, connection: apsw.Connection, order: NewOrder, attempt: AttemptStart | None, row: OrderRow
    ) -> Claimed:
        outcome = "queued" if attempt is None else "in_flight"
        by_body = order.key_digest is None
        found = Claimed(order_id=row.order_id, version=row.version, by_body=by_body, key_digest=row.key_digest)
        self._move(connection, _CLAIM_AGAIN, found, {"outcome": outcome})
        return _later(found)

    def _move(
        self, connection: apsw.Connection, statement: str, claimed: Claimed, values: dict[str, Any] | None = None
    ) -> None:
        fixed = {"order_id": claimed.order_id, "version": claimed.version, "owner": self._epoch}
        _change(connection, statement, {**fixed, **(values or {})})


def unsettled_of_owners(connection: apsw.Connection) -> list[HeldOrder]:
    """The orders that processes have, or had, in hand."""
    return [HeldOrder(*row) for row in connection.execute(_HELD)]


def _later(claimed: Claimed) -> Claimed:
    return structs.replace(claimed, version=claimed.version + 1)


def _open_attempt(connection: apsw.Connection, claimed: Claimed, attempt: AttemptStart) -> None:
    values = {"order_id": claimed.order_id, "key_id": attempt.key_id, "started_ms": attempt.started_ms}
    connection.execute(_OPEN_ATTEMPT, values)


def _close_attempt(connection: apsw.Connection, claimed: Claimed, ended: AttemptEnd) -> None:
    connection.execute(_CLOSE_ATTEMPT, {"order_id": claimed.order_id, **structs.asdict(ended)})


def _change(connection: apsw.Connection, statement: str, values: dict[str, Any]) -> None:
    """A compare-and-set that must hit: a miss means that somebody else moved the order, and nothing is written."""
    connection.execute(statement, values)
    if connection.changes() != 1:
        raise LedgerStale(f"order {values['order_id']} is not at version {values['version']} any more")
