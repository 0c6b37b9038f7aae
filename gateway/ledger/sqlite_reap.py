"""Forgetting orders whose key has expired: the ledger holds what may still be asked for, and what bears witness.

Never forgotten: an unsettled order, a watched one, and of a team's placed orders those by which a listing is known to
be complete: from an hour before its oldest unknown order on, the last one before that, and always the newest.
"""

from typing import Any, Final

import apsw

from gateway.core.absence import WITNESS_BEFORE_MS
from gateway.ledger.mark import quarantine_of

_PART: Final = 500
"""Rows looked at in one step, a few milliseconds' work: no order waits long behind it."""

_REACH: Final = """
SELECT max(seq) FROM (SELECT seq, created_tick FROM orders WHERE seq > :after ORDER BY seq LIMIT :part)
WHERE created_tick <= :settled_by
"""
_OVER: Final = """
seq > :after AND seq <= :upto AND settled_tick <= :settled_by
AND (watch_until_tick IS NULL OR watch_until_tick <= :now)
AND (outcome <> 'placed' OR (
  SELECT newer.created_tick FROM orders AS newer
  WHERE newer.team_id = orders.team_id AND newer.outcome = 'placed' AND newer.seq > orders.seq
  ORDER BY newer.seq LIMIT 1
) < coalesce((
  SELECT min(created_tick) - :before FROM orders AS doubtful
  WHERE doubtful.outcome = 'unknown' AND doubtful.team_id = orders.team_id
), :ever))
"""
_ANY: Final = f"SELECT EXISTS (SELECT 1 FROM orders WHERE {_OVER})"  # noqa: S608 - constants only
_FORGET_ATTEMPTS: Final = f"DELETE FROM attempts WHERE order_id IN (SELECT order_id FROM orders WHERE {_OVER})"  # noqa: S608 - constants only
_FORGET: Final = f"DELETE FROM orders WHERE {_OVER}"  # noqa: S608 - constants only
_EVER: Final = 2**62


class Part:
    """The next rows after `after` whose orders were claimed long enough ago, as values of the statements."""

    def __init__(self, after: int, upto: int, ttl_ms: int, tick: int) -> None:
        self.upto = upto
        self.values: dict[str, Any] = {
            "after": after, "upto": upto, "settled_by": tick - ttl_ms, "now": tick,
            "before": WITNESS_BEFORE_MS, "ever": _EVER,
        }  # fmt: skip


def next_part(connection: apsw.Connection, after: int, ttl_ms: int, tick: int) -> tuple[Part, bool] | None:
    """The next part, and whether anything in it is to be forgotten; None where what follows is too young.

    None while the ledger is in quarantine, too: what bears witness to the rejoin's listings stays.
    """
    if quarantine_of(connection) is not None:
        return None
    reach = {"after": after, "part": _PART, "settled_by": tick - ttl_ms}
    upto: int | None = connection.execute(_REACH, reach).get
    if upto is None:
        return None
    part = Part(after, upto, ttl_ms, tick)
    return part, bool(connection.execute(_ANY, part.values).get)


def forget(connection: apsw.Connection, part: Part) -> int:
    """Returns how many orders were forgotten. What is not over any more is left."""
    connection.execute(_FORGET_ATTEMPTS, part.values)
    connection.execute(_FORGET, part.values)
    return connection.changes()
