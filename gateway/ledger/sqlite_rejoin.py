"""The statements of rejoining: entering what OfferGrid lists into a ledger that has lost it.

All of it is one transaction, with the end of the quarantine: durable together or not at all.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import apsw
import msgspec

from gateway.core.reentry import Reentry
from gateway.ledger.interface import Seals
from gateway.ledger.mark import end_quarantine
from gateway.ledger.sqlite_audit import audit

WITNESS_MS: Final = 3_600_000
"""Orders placed within an hour before the team's last one bear witness to a listing."""

_HOUR_TICKS: Final = """
WITH here AS (
  SELECT seq, created_tick, order_id, upstream_order_id FROM orders
  WHERE team_id = ?1 AND outcome = 'placed'
    AND settled_tick > coalesce((SELECT account_tick FROM teams WHERE team_id = ?1), -1)
)
SELECT order_id, upstream_order_id FROM here
WHERE created_tick >= (SELECT max(created_tick) FROM orders WHERE team_id = ?1) - ?2
   OR seq = (SELECT max(seq) FROM here)
"""
_LAST_MS: Final = "SELECT coalesce(max(created_ms), 0) FROM orders"
_TENANTS: Final = """
SELECT tenant_id, name, coalesce(scope, name) FROM tenants UNION ALL SELECT tenant_id, name, scope FROM removed_tenants
"""
_ROW: Final = "SELECT outcome, upstream_order_id FROM orders WHERE order_id = ?"
_TAKEN: Final = "SELECT order_id FROM orders WHERE team_id = ? AND upstream_order_id = ?"
_BOUND: Final = "SELECT order_id, created_ms FROM orders WHERE tenant_id = ? AND key_digest = ?"
_UNBIND: Final = """
UPDATE orders SET key_digest = NULL, sealed_idempotency_key = NULL, version = version + 1 WHERE order_id = ?
"""
_PLACE: Final = """
UPDATE orders SET outcome = 'placed', version = version + 1, owner = NULL, cause = 'placed', http_status = 201,
                  upstream_order_id = :upstream_order_id, upstream_status = :upstream_status,
                  sealed_response = :sealed_response, sealed_answer = NULL,
                  settled_ms = :now_ms, settled_tick = :settled_tick, watch_until_tick = NULL
WHERE order_id = :order_id AND outcome IN ('queued', 'in_flight', 'unknown', 'not_placed')
"""
_INSERT: Final = """
INSERT INTO orders (order_id, tenant_id, tenant, team_id, outcome, version, fingerprint, key_digest, created_ms,
                    created_tick, settled_ms, settled_tick, cause, http_status, upstream_order_id, upstream_status,
                    sealed_response)
VALUES (:order_id, :tenant_id, :tenant, :team_id, 'placed', 1, :fingerprint, :key_digest, :received_ms,
        :now_tick, :now_ms, :settled_tick, 'placed', 201, :upstream_order_id, :upstream_status, :sealed_response)
"""
_ADD_TENANT: Final = """
INSERT INTO tenants (name, scope, team_id, state, require_idempotency_key, defaults, enforced, created_ms)
VALUES (?, ?, ?, 'suspended', 0, '{}', '{}', ?) RETURNING tenant_id
"""
_NAMES: Final = "SELECT name FROM tenants"
_LONGEST_NAME: Final = 63
_NOTE_STRAY: Final = """
INSERT INTO strays (team_id, upstream_order_id, order_id, kind, seen_ms) VALUES (?, ?, ?, 'duplicate', ?)
ON CONFLICT DO NOTHING
"""

"""A tick before which every key has expired."""

_DIRECTORY_MOVED: Final = "UPDATE meta SET value = value + 1 WHERE name = 'directory_version'"
"""By which running instances know that they may place orders again."""

Way = Literal["inserted", "placed", "known", "forgotten", "duplicate", "contradicts"]


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Now: by the wall, and in the ledger's time. `ttl_ms`: how long a key lives."""

    wall_ms: int
    tick: int
    ttl_ms: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one listed order. `was`: the outcome that the ledger had of it, None where it had none.

    `forgotten`: of a tenant that is gone, and so long ago that its key has expired; not entered. `duplicate`: OfferGrid
    has the order twice. `contradicts`: the ledger calls it rejected, or another order has its
    upstream id; nothing was changed.
    """

    team_id: int
    order_id: str
    tenant: str
    upstream_order_id: str
    was: str | None
    way: Way


def witnesses(connection: apsw.Connection, team_id: int) -> list[tuple[str, str]]:
    """The orders (order id, upstream order id) that a complete listing of the team holds."""
    rows: list[Any] = connection.execute(_HOUR_TICKS, (team_id, WITNESS_MS)).fetchall()
    return [(order_id, upstream_order_id) for order_id, upstream_order_id in rows]


def team_names(connection: apsw.Connection) -> list[tuple[int, str]]:
    """Every team's id and name."""
    rows: list[Any] = connection.execute("SELECT team_id, name FROM teams").fetchall()
    return [(team_id, name) for team_id, name in rows]


class Entered(msgspec.Struct, frozen=True, kw_only=True):
    """What a rejoin entered. `tenants_made`: names that the ledger did not know; they are suspended."""

    entries: tuple[Entry, ...]
    tenants_made: tuple[str, ...]


def rejoin(
    connection: apsw.Connection,
    seals: Seals,
    now: Moment,
    orders: Mapping[int, Sequence[Reentry]],
    *,
    who: str,
    unread: Sequence[str] = (),
) -> Entered:
    """Enters the orders of each team and ends the quarantine, inside the caller's transaction.

    For the audit log: `who` did it, and which teams were left `unread` by their word.
    """
    enters = _Enters(connection, seals, now)
    entries = [entry for team_id, own in orders.items() for entry in enters.enter(team_id, own)]
    end_quarantine(connection)
    connection.execute(_DIRECTORY_MOVED)
    ways: dict[str, object] = dict(Counter(entry.way for entry in entries))
    change = ways | {"tenantsMade": enters.tenants_made, "unread": unread}
    audit(connection, seals, at_ms=now.wall_ms, who=who, action="db rejoin", subject="ledger", change=change)
    return Entered(entries=tuple(entries), tenants_made=tuple(enters.tenants_made))


class _Enters:
    """Enters listed orders, inside the caller's transaction."""

    def __init__(self, connection: apsw.Connection, seals: Seals, now: Moment) -> None:
        self._connection = connection
        self._seals = seals
        self._now = now
        rows: list[Any] = connection.execute(_TENANTS).fetchall()
        self._by_scope: dict[str, int] = {scope: tenant_id for tenant_id, _, scope in rows}
        # Made when a tenant's id was its scope, which its orders did not tell at first.
        self._by_name: dict[str, int] = {name: tenant_id for tenant_id, name, scope in rows if scope.isdigit()}
        self._forgotten_before_ms: int = connection.execute(_LAST_MS).get - now.ttl_ms
        self.tenants_made: list[str] = []

    def enter(self, team_id: int, orders: Sequence[Reentry]) -> list[Entry]:
        """The oldest first, so that of two orders under one key the later one keeps it."""
        return [self._entry(team_id, order) for order in orders]

    def _entry(self, team_id: int, order: Reentry) -> Entry:
        row: Any = self._connection.execute(_ROW, (order.order_id,)).fetchone()
        was, upstream_order_id = (None, None) if row is None else row
        if was == "placed":
            way: Way = "known"
            if upstream_order_id != order.upstream_order_id:
                way = "duplicate"
                stray = (team_id, order.upstream_order_id, order.order_id, self._now.wall_ms)
                self._connection.execute(_NOTE_STRAY, stray)
        elif was == "rejected" or self._is_taken(team_id, order):
            way = "contradicts"
        elif row is not None:
            way = "placed"
            self._connection.execute(_PLACE, self._values(order))
        elif self._known_tenant(order) is None and self._is_forgotten(order):
            way = "forgotten"
        else:
            way = "inserted"
            self._insert(team_id, order)
        return Entry(
            team_id=team_id,
            order_id=order.order_id,
            tenant=order.tenant,
            upstream_order_id=order.upstream_order_id,
            was=was,
            way=way,
        )

    def _is_taken(self, team_id: int, order: Reentry) -> bool:
        return self._connection.execute(_TAKEN, (team_id, order.upstream_order_id)).fetchone() is not None

    def _insert(self, team_id: int, order: Reentry) -> None:
        tenant_id, key_digest = self._tenant_id(order, team_id), order.key_digest
        bound: list[Any] = self._connection.execute(_BOUND, (tenant_id, key_digest)).fetchall()
        for order_id, created_ms in bound:  # one of the two had expired when the other one came: the later one
            if created_ms > order.received_ms:
                key_digest = None
            else:
                self._connection.execute(_UNBIND, (order_id,))
        values = {**self._values(order), "team_id": team_id, "tenant_id": tenant_id, "key_digest": key_digest}
        self._connection.execute(_INSERT, values)

    def _values(self, order: Reentry) -> dict[str, Any]:
        sealed = self._seals.seal(order.text, table="orders", row=order.order_id, column="response")
        # Repeats that came while nobody could answer are still under way, and how long ago an order settled only a wall
        # clock says, which may have stood anywhere: what is entered settled just now.
        return {
            "order_id": order.order_id, "tenant": order.tenant, "fingerprint": order.fingerprint,
            "received_ms": order.received_ms, "upstream_order_id": order.upstream_order_id,
            "upstream_status": order.upstream_status, "sealed_response": sealed, "now_ms": self._now.wall_ms,
            "now_tick": self._now.tick, "settled_tick": self._now.tick,
        }  # fmt: skip

    def _is_forgotten(self, order: Reentry) -> bool:
        """The ledger had forgotten it before it was backed up, or would have: its key had expired."""
        return order.received_ms < self._forgotten_before_ms

    def _known_tenant(self, order: Reentry) -> int | None:
        """The id of whose order it is, who may have been removed. By its scope: names are used again."""
        found = self._by_scope.get(order.scope)
        return self._by_name.get(order.tenant) if found is None and order.scope == order.tenant else found

    def _tenant_id(self, order: Reentry, team_id: int) -> int:
        """A tenant that was made after the backup is made again, suspended: its name must not fall to another one
        while nobody has looked at its orders.
        """
        found = self._known_tenant(order)
        if found is None:
            name = self._free_name(order)
            values = (name, None if order.scope == name else order.scope, team_id, self._now.wall_ms)
            found = self._by_scope[order.scope] = int(self._connection.execute(_ADD_TENANT, values).get)
            self.tenants_made.append(name)
        return found

    def _free_name(self, order: Reentry) -> str:
        """Its own name, unless another tenant has it: one of two that had it one after the other."""
        rows: list[Any] = self._connection.execute(_NAMES).fetchall()
        taken = {name for (name,) in rows}
        begin = order.tenant[: _LONGEST_NAME - 9]  # there is always room for a number
        names = itertools.chain([order.tenant], (f"{begin}-{number}" for number in itertools.count(2)))
        return next(name for name in names if name not in taken)
