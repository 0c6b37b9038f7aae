"""Writing orders. Each statement names the state and the version that it expects.

Content is sealed here, in the writer's thread, so that nothing above ever holds a sealed record and nothing below ever
holds a plain one.
"""

from collections.abc import Callable
from typing import Any, Final

import apsw
from msgspec import structs

from gateway.core.budget import Allowance, Call, Shortage
from gateway.core.lifecycle import may_follow
from gateway.errors import LedgerStale, UpstreamOrderTaken
from gateway.ledger.interface import (
    AttemptEnd,
    AttemptStart,
    Claim,
    Claimed,
    Known,
    NewOrder,
    Patience,
    Seals,
    Settlement,
    Short,
)
from gateway.ledger.sqlite_budget import Calls
from gateway.ledger.sqlite_recover import Hands
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
INSERT INTO attempts (order_id, number, key_id, started_ms, call)
SELECT :order_id, 1 + coalesce(max(number), 0), :key_id, :started_ms, :call FROM attempts WHERE order_id = :order_id
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


class OrderWrites:
    """The writes of one process, which holds `epoch`. `tick` is the ledger's time."""

    def __init__(self, seals: Seals, epoch: int, tick: Callable[[], int], calls: Calls) -> None:
        self._calls = calls
        self._seals = seals
        self._epoch = epoch
        self._tick = tick
        self.hands = Hands(epoch)

    def claim(
        self, connection: apsw.Connection, order: NewOrder, attempt: AttemptStart | None, patience: Patience
    ) -> Claim:
        """First wins: see `Ledger.claim`."""
        row = self._same_order(connection, order)
        expired = (
            row is not None and order.key_digest is not None and row.expired(ttl_ms=order.ttl_ms, tick=self._tick())
        )
        if row is not None and not expired:
            known = self._known(connection, order, row)
            if known is not None:
                return known
        short = None
        if attempt is not None:
            short = self._short(connection, order.tenant_id, attempt, patience)
            if short is not None and short.wait_ms > patience.wait_ms:
                return self._refusal(connection, order.tenant_id, attempt, short)
        opened = None if short is not None else attempt
        if row is not None and expired:
            _change(connection, _UNBIND, {"order_id": row.order_id, "version": row.version})
        if row is None or expired:
            claimed = self._claim_new(connection, order, opened)
        else:
            claimed = self._claim_again(connection, order, opened, row)
        if opened is not None:
            claimed = self._open(connection, claimed, order.tenant_id, opened)
        self.hands.claimed(claimed.order_id, order.request_id)
        return claimed if short is None else structs.replace(claimed, short=short)

    def recall(self, connection: apsw.Connection, order: NewOrder) -> Known | None:
        """What is there already of this order and is not to be sent: see `Ledger.recall`."""
        row = self._same_order(connection, order)
        if row is None or (order.key_digest is not None and row.expired(ttl_ms=order.ttl_ms, tick=self._tick())):
            return None
        return self._known(connection, order, row)

    def start(self, connection: apsw.Connection, claimed: Claimed, attempt: AttemptStart) -> Claimed | Short:
        """`queued` → `in_flight`."""
        tenant_id = _tenant_of(connection, claimed)
        short = self._short(connection, tenant_id, attempt, Patience())
        if short is not None:
            return self._refusal(connection, tenant_id, attempt, short)
        self._move(connection, _START, claimed)
        return self._open(connection, _later(claimed), tenant_id, attempt)

    def next_attempt(
        self, connection: apsw.Connection, claimed: Claimed, ended: AttemptEnd, attempt: AttemptStart
    ) -> Claimed | Short:
        """Closes one attempt and opens the next."""
        tenant_id = _tenant_of(connection, claimed)
        short = self._short(connection, tenant_id, attempt, Patience())
        if short is not None:
            return self._refusal(connection, tenant_id, attempt, short)
        self._move(connection, _NEXT, claimed)
        self._close(connection, claimed, ended)
        return self._open(connection, _later(claimed), tenant_id, attempt)

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
            self._close(connection, claimed, ended)

    def _short(
        self, connection: apsw.Connection, tenant_id: int, attempt: AttemptStart, patience: Patience
    ) -> Shortage | None:
        if attempt.terms is None:
            return None
        return self._calls.ask(connection, attempt.terms, tenant_id, only_part=patience.only_part)

    def _refusal(
        self, connection: apsw.Connection, tenant_id: int, attempt: AttemptStart, short: Shortage
    ) -> Short:
        assert attempt.terms is not None, "without terms nothing is short"
        return Short(short=short, allowances=self._calls.allowances(connection, attempt.terms, tenant_id))

    def _open(
        self, connection: apsw.Connection, claimed: Claimed, tenant_id: int, attempt: AttemptStart
    ) -> Claimed:
        """A new attempt, counted against its key's budget."""
        call: Call | None = None
        allowances: tuple[Allowance, ...] = ()
        if attempt.terms is not None and attempt.terms.divisions:
            call = self._calls.count(connection, attempt.terms, tenant_id)
            allowances = self._calls.allowances(connection, attempt.terms, tenant_id)
        connection.execute(_OPEN_ATTEMPT, {
            "order_id": claimed.order_id, "key_id": attempt.key_id, "started_ms": attempt.started_ms,
            "call": None if call is None else call.number,
        })  # fmt: skip
        return structs.replace(claimed, key_id=attempt.key_id, call=call, allowances=allowances, short=None)

    def _close(self, connection: apsw.Connection, claimed: Claimed, ended: AttemptEnd) -> None:
        """The newest attempt. Its call counts from its end where it may have arrived as late."""
        connection.execute(_CLOSE_ATTEMPT, {
            "order_id": claimed.order_id, "ended_ms": ended.ended_ms, "evidence": ended.evidence,
            "status": ended.status,
        })  # fmt: skip
        if claimed.call is not None and ended.evidence != "not_sent":
            self._calls.ended(connection, claimed.call, answered=ended.evidence == "answered")

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


def _later(claimed: Claimed) -> Claimed:
    return structs.replace(claimed, version=claimed.version + 1)


def _tenant_of(connection: apsw.Connection, claimed: Claimed) -> int:
    found: int = connection.execute("SELECT tenant_id FROM orders WHERE order_id = ?", (claimed.order_id,)).get
    return found


def _change(connection: apsw.Connection, statement: str, values: dict[str, Any]) -> None:
    """A compare-and-set that must hit: a miss means that somebody else moved the order, and nothing is written."""
    connection.execute(statement, values)
    if connection.changes() != 1:
        raise LedgerStale(f"order {values['order_id']} is not at version {values['version']} any more")
