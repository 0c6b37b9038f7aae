"""The statements of reconciling: which orders nobody is sure of, who bears witness, and how the truth is written down.

`tick` is the ledger's time in milliseconds. Each write names the state that it expects; a miss is LedgerStale, and
nothing was written.
"""

from collections.abc import Sequence
from typing import Any, Final

import apsw
import msgspec

from gateway.core.absence import Witness, Witnesses
from gateway.errors import LedgerStale, UpstreamOrderTaken
from gateway.ledger.interface import (
    Found,
    OrderState,
    Resolution,
    Seals,
    Stray,
    UnknownOrder,
    WatchedOrder,
)
from gateway.ledger.sqlite_audit import audit

MAX_UNKNOWN: Final = 10_000
"""Of one team. Orders looked for at once, the oldest first: one listing serves them all."""

MAX_WATCHED: Final = 10_000
"""Of one team, those that are watched for longest first. A patrol sees the others."""

MAX_WITNESSES: Final = 100_000
"""More orders than the longest listing can hold."""

_TEAMS: Final = """
WITH RECURSIVE team (id) AS (
  SELECT min(team_id) FROM orders INDEXED BY {index} WHERE {where}
  UNION ALL
  SELECT (SELECT min(team_id) FROM orders INDEXED BY {index} WHERE {where} AND team_id > team.id)
  FROM team WHERE team.id IS NOT NULL
)
SELECT id FROM team WHERE id IS NOT NULL
"""
"""As many steps as there are teams, however many orders they have."""

_UNKNOWN_TEAMS: Final = _TEAMS.format(index="unknown_orders_of_a_team", where="outcome = 'unknown'")
_WATCHED_TEAMS: Final = _TEAMS.format(index="watched_orders_of_a_team", where="watch_until_tick IS NOT NULL")
_UNKNOWN: Final = """
SELECT order_id, team_id, coalesce(teams.name, ''), version, orders.created_ms, created_tick, http_status
FROM orders INDEXED BY unknown_orders_of_a_team LEFT JOIN teams USING (team_id)
WHERE outcome = 'unknown' AND team_id = ? ORDER BY seq LIMIT ?
"""
_WATCHED: Final = """
SELECT order_id, team_id, coalesce(teams.name, '')
FROM orders INDEXED BY watched_orders_of_a_team LEFT JOIN teams USING (team_id)
WHERE team_id = ? AND watch_until_tick > ? ORDER BY watch_until_tick DESC LIMIT ?
"""
_WITNESSES: Final = """
SELECT order_id, upstream_order_id, created_tick FROM orders
WHERE team_id = ?1 AND outcome = 'placed'
  AND settled_tick > coalesce((SELECT account_tick FROM teams WHERE team_id = ?1), -1)
ORDER BY seq DESC LIMIT ?2
"""
_STATES: Final = """
SELECT order_id, team_id, outcome, version, upstream_order_id, http_status FROM orders
WHERE order_id IN (SELECT value FROM json_each(?)) AND team_id = ?
"""
_PLACE: Final = """
UPDATE orders SET outcome = 'placed', version = version + 1, cause = :cause, http_status = 201,
                  upstream_order_id = :upstream_order_id, upstream_status = :upstream_status,
                  sealed_response = :sealed_response, sealed_answer = NULL,
                  settled_ms = :settled_ms, settled_tick = :tick
WHERE order_id = :order_id AND version = :version AND outcome = :before
"""
_DENY: Final = """
UPDATE orders SET outcome = 'not_placed', version = version + 1, cause = :cause,
                  settled_ms = :settled_ms, settled_tick = :tick, watch_until_tick = :tick + :watch_ms
WHERE order_id = :order_id AND version = :version AND outcome = 'unknown'
"""
_TAKEN: Final = """
SELECT 1 FROM orders WHERE team_id = ? AND upstream_order_id = ? AND order_id <> ?
"""
_NOTE: Final = """
INSERT INTO strays (team_id, upstream_order_id, order_id, kind, seen_ms)
VALUES (:team_id, :upstream_order_id, :order_id, :kind, :seen_ms) ON CONFLICT DO NOTHING
"""
_UNRESOLVED: Final = "SELECT team_id, version FROM orders WHERE order_id = ? AND outcome = 'unknown'"


def unknown_teams(connection: apsw.Connection) -> list[int]:
    """The teams that have unknown orders."""
    return [team_id for (team_id,) in connection.execute(_UNKNOWN_TEAMS)]


def watched_teams(connection: apsw.Connection) -> list[int]:
    """The teams that have, or had, watched orders."""
    return [team_id for (team_id,) in connection.execute(_WATCHED_TEAMS)]


def unknown(connection: apsw.Connection, team_id: int) -> list[UnknownOrder]:
    """The oldest first."""
    rows: list[Any] = connection.execute(_UNKNOWN, (team_id, MAX_UNKNOWN)).fetchall()
    return [
        UnknownOrder(
            order_id=order_id, team_id=team_id, team=team, version=version, created_ms=created, created_tick=tick,
            http_status=status,
        )
        for order_id, team_id, team, version, created, tick, status in rows
    ]  # fmt: skip


def watched(connection: apsw.Connection, team_id: int, tick: int) -> list[WatchedOrder]:
    """Whatever they are now: an order that was tried again may turn up twice."""
    rows: list[Any] = connection.execute(_WATCHED, (team_id, tick, MAX_WATCHED)).fetchall()
    return [WatchedOrder(order_id=order_id, team_id=team_id, team=team) for order_id, team_id, team in rows]


def witnesses(connection: apsw.Connection, team_id: int, since_tick: int) -> Witnesses:
    """The team's placed orders that were claimed since that tick, and the last one before."""
    found: list[Witness] = []
    for order_id, upstream_order_id, tick in connection.execute(_WITNESSES, (team_id, MAX_WITNESSES)):
        found.append(Witness(order_id=order_id, upstream_order_id=upstream_order_id, tick=tick))
        if tick < since_tick:
            return Witnesses(known=found[::-1], cut=True)
    return Witnesses(known=found[::-1], cut=len(found) == MAX_WITNESSES)


def states(connection: apsw.Connection, team_id: int, order_ids: Sequence[str]) -> list[OrderState]:
    """Those of these orders that are the team's, in no order."""
    names = msgspec.json.encode(order_ids).decode()
    rows: list[Any] = connection.execute(_STATES, (names, team_id)).fetchall()
    return [
        OrderState(
            order_id=order_id, team_id=team, outcome=outcome, version=version, upstream_order_id=upstream_order_id,
            http_status=status,
        )
        for order_id, team, outcome, version, upstream_order_id, status in rows
    ]  # fmt: skip


def settle_found(
    connection: apsw.Connection, seals: Seals, order: UnknownOrder | OrderState, found: Found, tick: int
) -> None:
    """OfferGrid has an order that was unknown, or that was called not placed.

    UpstreamOrderTaken: it is another order of the team that has this upstream id.
    """
    _require_free(connection, order.team_id, found.upstream_order_id, order.order_id)
    late = isinstance(order, OrderState)
    _change(connection, _PLACE, {
        "order_id": order.order_id, "version": order.version, "before": "not_placed" if late else "unknown",
        "cause": "late" if late else "placed", "upstream_order_id": found.upstream_order_id,
        "upstream_status": found.upstream_status, "sealed_response": _sealed(seals, order.order_id, found.text),
        "settled_ms": found.settled_ms, "tick": tick,
    })  # fmt: skip


def settle_absent(
    connection: apsw.Connection, order: UnknownOrder, *, settled_ms: int, tick: int, watch_ms: int
) -> None:
    """OfferGrid does not have it. It stays watched for `watch_ms`."""
    _change(connection, _DENY, {
        "order_id": order.order_id, "version": order.version, "cause": "absent", "settled_ms": settled_ms,
        "tick": tick, "watch_ms": watch_ms,
    })  # fmt: skip


def note_stray(connection: apsw.Connection, stray: Stray) -> bool:
    """Whether it was not noted before."""
    connection.execute(_NOTE, msgspec.structs.asdict(stray))
    return connection.changes() == 1


def resolve(connection: apsw.Connection, seals: Seals, by: Resolution, *, tick: int, watch_ms: int) -> None:
    """An operator's word on an unknown order, and who gave it, in one transaction."""
    row = connection.execute(_UNRESOLVED, (by.order_id,)).fetchone()
    if row is None:
        raise LedgerStale(f"order {by.order_id} is not unknown")
    team_id, version = row
    values = {
        "order_id": by.order_id,
        "version": version,
        "cause": "resolved",
        "settled_ms": by.at_ms,
        "tick": tick,
    }
    if by.placed_as is None:
        _change(connection, _DENY, {**values, "watch_ms": watch_ms})
    else:
        _require_free(connection, team_id, by.placed_as, by.order_id)
        text = msgspec.json.encode({"orderId": by.placed_as})
        _change(connection, _PLACE, {
            **values, "before": "unknown", "upstream_order_id": by.placed_as, "upstream_status": None,
            "sealed_response": _sealed(seals, by.order_id, text),
        })  # fmt: skip
    to = "not_placed" if by.placed_as is None else "placed"
    change = {"from": "unknown", "to": to, "upstreamOrderId": by.placed_as, "reason": by.reason}
    audit(connection, seals, at_ms=by.at_ms, who=by.who, action="order resolve", subject=by.order_id, change=change)


def _require_free(connection: apsw.Connection, team_id: int, upstream_order_id: str, order_id: str) -> None:
    if connection.execute(_TAKEN, (team_id, upstream_order_id, order_id)).fetchone() is not None:
        raise UpstreamOrderTaken(f"another order than {order_id} has the upstream order id that was found for it")


def _sealed(seals: Seals, order_id: str, text: bytes) -> bytes:
    return seals.seal(text, table="orders", row=order_id, column="response")


def _change(connection: apsw.Connection, statement: str, values: dict[str, Any]) -> None:
    connection.execute(statement, values)
    if connection.changes() != 1:
        raise LedgerStale(f"order {values['order_id']} is not as it was at version {values['version']} any more")
