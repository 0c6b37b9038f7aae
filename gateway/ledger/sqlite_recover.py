"""Taking over orders that are in nobody's hand any more.

Each statement names the state and the version that it expects.
"""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import apsw

from gateway.ledger.mark import quarantine_of
from gateway.ledger.sqlite_budget import Calls

_HELD: Final = """
SELECT order_id, version, coalesce(owner, 0) FROM orders WHERE outcome IN ('queued', 'in_flight')
"""
_RECOVER_SENT: Final = """
UPDATE orders SET outcome = 'unknown', version = version + 1, owner = NULL, cause = 'broken', http_status = 502,
                  unknown_tick = :settled_tick
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


class Hands:
    """Which of this process's requests is about which order. The writer's thread adds, another one looks."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._claimers: dict[str, str] = {}

    def claimed(self, order_id: str, request_id: str) -> None:
        """Inside the claim's transaction: before anybody can see the row."""
        self._claimers[order_id] = request_id

    def let_go(self, order: HeldOrder, in_hand: Collection[str]) -> bool:
        """Whether the order is this process's own, and nothing that goes on here is about it."""
        mine = order.owner == self._epoch
        return mine and order.order_id not in in_hand and self._claimers.get(order.order_id) not in in_hand

    def forget(self, in_hand: Collection[str]) -> None:
        """Drops the orders that are in nobody's hand here any more."""
        for order_id, request_id in list(self._claimers.items()):
            if request_id not in in_hand:
                self._claimers.pop(order_id, None)


def unsettled_of_owners(connection: apsw.Connection) -> list[HeldOrder]:
    """The orders that processes have, or had, in hand."""
    return [HeldOrder(*row) for row in connection.execute(_HELD)]


def recover(
    connection: apsw.Connection, calls: Calls, left: Sequence[HeldOrder], *, settled_ms: int, settled_tick: int
) -> tuple[int, int]:
    """Settles what nobody has in hand any more. Of what was in flight nobody saw whether it was sent; of what was
    queued nothing was. Returns how many became `unknown`, and how many `not_placed`.

    Nothing while the ledger is in quarantine: what it calls queued may have been sent since, as a rejoin will find.
    """
    if quarantine_of(connection) is not None:
        return 0, 0
    unknown = not_placed = 0
    for order in left:
        expected = {"order_id": order.order_id, "version": order.version}
        calls.cut_off(connection, order.order_id)
        connection.execute(_RECOVER_SENT, {**expected, "settled_tick": settled_tick})
        unknown += connection.changes()
        values = {**expected, "settled_ms": settled_ms, "settled_tick": settled_tick}
        connection.execute(_RECOVER_QUEUED, values)
        not_placed += connection.changes()
    return unknown, not_placed
