"""The statements of reconciling: which orders nobody is sure of, and how a find is written down."""

from collections.abc import Sequence
from typing import Any, Final

import apsw

from gateway.errors import LedgerStale, UpstreamOrderTaken
from gateway.ledger.interface import Found, Seals, UnknownOrder

MAX_UNKNOWN: Final = 10_000
"""Orders looked for at once, the oldest first: one listing serves them all."""

_UNKNOWN: Final = """
SELECT order_id, team_id, coalesce(teams.name, ''), version, orders.created_ms, http_status
FROM orders LEFT JOIN teams USING (team_id) WHERE outcome = 'unknown' ORDER BY seq LIMIT ?
"""
_FOUND: Final = """
UPDATE orders SET outcome = 'placed', version = version + 1, cause = 'placed', http_status = 201,
                  upstream_order_id = :upstream_order_id, upstream_status = :upstream_status,
                  sealed_response = :sealed_response, sealed_answer = NULL, settled_ms = :settled_ms,
                  settled_tick = :settled_tick
WHERE order_id = :order_id AND version = :version AND outcome = 'unknown'
"""
_TAKEN: Final = "SELECT 1 FROM orders WHERE team_id = ? AND upstream_order_id = ?"


def unknown(connection: apsw.Connection) -> list[UnknownOrder]:
    rows: list[Any] = connection.execute(_UNKNOWN, (MAX_UNKNOWN,)).fetchall()
    return [
        UnknownOrder(
            order_id=order_id, team_id=team_id, team=team, version=version, created_ms=created, http_status=status
        )
        for order_id, team_id, team, version, created, status in rows
    ]


def settle_found(connection: apsw.Connection, seals: Seals, order: UnknownOrder, found: Found, tick: int) -> None:
    """Writes that OfferGrid has the order. LedgerStale where it is not `unknown` at this version any more."""
    taken: Sequence[Any] = connection.execute(_TAKEN, (order.team_id, found.upstream_order_id)).fetchall()
    if taken:
        raise UpstreamOrderTaken(f"OfferGrid lists order {order.order_id} under another order's id")
    connection.execute(
        _FOUND,
        {
            "order_id": order.order_id,
            "version": order.version,
            "upstream_order_id": found.upstream_order_id,
            "upstream_status": found.upstream_status,
            "sealed_response": seals.seal(found.text, table="orders", row=order.order_id, column="response"),
            "settled_ms": found.settled_ms,
            "settled_tick": tick,
        },
    )
    if connection.changes() != 1:
        raise LedgerStale(f"order {order.order_id} is not unknown at version {order.version} any more")
