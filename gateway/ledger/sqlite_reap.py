"""Forgetting orders whose key has expired: the ledger holds what may still be asked for, and what bears witness.

Never forgotten: an unsettled order, a watched one, and of a team's placed orders those by which a listing is known to
be complete: for each order in doubt those from an hour before its claim until `WITNESS_AFTER_MS` after it became
unknown, and the last one before that; and always the team's newest. What was placed in the lifetime of a key is there
anyway. So an order that stays in doubt for months keeps two days' witnesses, and not months of them.
"""

from typing import Any, Final

import apsw
import msgspec

from gateway.core.absence import WITNESS_BEFORE_MS
from gateway.ledger.mark import quarantine_of

_PART: Final = 500
"""Rows looked at in one step, a few milliseconds' work: no order waits long behind it."""

_REACH: Final = """
SELECT max(seq) FROM (SELECT seq, created_tick FROM orders WHERE seq > :after ORDER BY seq LIMIT :part)
WHERE created_tick <= :settled_by
"""
WITNESS_AFTER_MS: Final = 90_000_000
"""A day and an hour. OfferGrid acts within `settle_after_s` of an attempt's end, which is a day at most: beyond it this
bears witness of an hour on the order's other side.
"""

_DOUBTS: Final = """
SELECT team_id, created_tick - ?, CASE outcome WHEN 'unknown' THEN unknown_tick END
FROM orders WHERE outcome IN ('queued', 'in_flight', 'unknown') ORDER BY team_id, created_tick
"""
_OVER: Final = """
seq > :after AND seq <= :upto AND settled_tick <= :settled_by
AND (watch_until_tick IS NULL OR watch_until_tick <= :now)
AND (outcome <> 'placed' OR (
  SELECT NOT EXISTS (
    SELECT 1 FROM json_each(:doubts) AS doubt
    WHERE doubt.value ->> 0 = orders.team_id
    AND doubt.value ->> 1 <= newer.created_tick AND doubt.value ->> 2 >= orders.created_tick
  )
  FROM orders AS newer
  WHERE newer.team_id = orders.team_id AND newer.outcome = 'placed' AND newer.seq > orders.seq
  ORDER BY newer.seq LIMIT 1
))
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
    return part, bool(connection.execute(_ANY, {**part.values, "doubts": _doubts(connection)}).get)


def forget(connection: apsw.Connection, part: Part) -> int:
    """Returns how many orders were forgotten. What is not over any more is left."""
    values = {**part.values, "doubts": _doubts(connection)}
    connection.execute(_FORGET_ATTEMPTS, values)
    connection.execute(_FORGET, values)
    return connection.changes()


def _doubts(connection: apsw.Connection) -> str:
    """The spans of ticks whose placed orders bear witness, as a JSON array of [team id, from, to]. What overlaps is one
    span: a thousand orders of one outage are looked at once.
    """
    spans: list[list[int]] = []
    for team_id, begin, became_unknown in connection.execute(_DOUBTS, (WITNESS_BEFORE_MS,)):
        end = _EVER if became_unknown is None else became_unknown + WITNESS_AFTER_MS
        if spans and spans[-1][0] == team_id and begin <= spans[-1][2]:
            spans[-1][2] = max(spans[-1][2], end)
        else:
            spans.append([team_id, begin, end])
    return msgspec.json.encode(spans).decode()
