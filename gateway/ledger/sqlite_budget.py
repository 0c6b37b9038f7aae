"""The calls of each key, as every process on the ledger counts them.

A call is counted in the transaction that writes down its attempt, so that no crash loses the count and no two processes
give out the same place. What was read before is kept in memory (`core.budget.Book`); what others wrote since is read
first. Durability is the transaction's.
"""

from collections.abc import Callable
from typing import Final

import apsw

from gateway.core.budget import READS, SETTLES_IN_MS, Allowance, Book, Call, Shortage
from gateway.core.budget_terms import Terms

_SINCE: Final = """
SELECT number, tick, tenant_id, instead_of FROM calls WHERE key_id = ? AND number > ? ORDER BY number
"""
_COUNT: Final = "INSERT INTO calls (key_id, number, tick, tenant_id, instead_of) VALUES (?, ?, ?, ?, ?)"
_FORGET: Final = "DELETE FROM calls WHERE key_id = ? AND number <= ?"
_PAUSED: Final = "SELECT until_tick FROM key_pauses WHERE key_id = ?"
_PAUSE: Final = """
INSERT INTO key_pauses (key_id, until_tick) VALUES (?1, ?2)
ON CONFLICT DO UPDATE SET until_tick = max(until_tick, ?2)
"""
_OPEN_CALL: Final = """
SELECT attempts.key_id, call, tick, tenant_id FROM attempts
JOIN calls ON calls.key_id = attempts.key_id AND calls.number = attempts.call
WHERE order_id = ? AND ended_ms IS NULL
"""


class _Known:
    """What is known of one key: its book, and up to which number."""

    __slots__ = ("book", "last")

    def __init__(self) -> None:
        self.book = Book()
        self.last = 0


class Calls:
    """For one connection's thread. `tick` is the ledger's time. Everything stands inside the caller's transaction;
    where that is undone, `undone` must be called before anything else.
    """

    def __init__(self, tick: Callable[[], int]) -> None:
        self._tick = tick
        self._keys: dict[str, _Known] = {}

    def undone(self) -> None:
        """What was counted may not stand: everything is read anew."""
        self._keys.clear()

    def ask(
        self, connection: apsw.Connection, terms: Terms, who: int, *, only_part: bool = False
    ) -> Shortage | None:
        """None where the call may be made; `count` counts it."""
        return self._known(connection, terms.key_id).book.ask(who, self._tick(), terms, only_part=only_part)

    def count(self, connection: apsw.Connection, terms: Terms, who: int) -> Call:
        """Writes down a call that is about to be made."""
        known = self._known(connection, terms.key_id)
        now = self._tick()
        call = Call(terms.key_id, known.last + 1, now, who)
        self._write(connection, known, call, None)
        forgotten = known.book.forget(now)
        if forgotten:
            connection.execute(_FORGET, (terms.key_id, forgotten))
        return call

    def take_read(self, connection: apsw.Connection, terms: Terms) -> Shortage | None:
        """Both, for a call of the gateway's own, which nothing else has to be written with."""
        short = self.ask(connection, terms, READS)
        if short is None:
            self.count(connection, terms, READS)
        return short

    def ended(self, connection: apsw.Connection, call: Call, *, answered: bool) -> None:
        """A call whose attempt took long, or that nobody answered, may have arrived only now: it counts from now."""
        now = self._tick()
        if answered and now - call.tick <= SETTLES_IN_MS:
            return
        known = self._known(connection, call.key_id)
        self._write(connection, known, call._replace(number=known.last + 1, tick=now), call.number)

    def cut_off(self, connection: apsw.Connection, order_id: str) -> None:
        """The same for an order's attempts whose end nobody saw."""
        for row in list(connection.execute(_OPEN_CALL, (order_id,))):
            self.ended(connection, Call(*row), answered=False)

    def pause(self, connection: apsw.Connection, key_id: str, pause_ms: int) -> None:
        """OfferGrid wants no call with this key for so long."""
        connection.execute(_PAUSE, (key_id, self._tick() + pause_ms))

    def allowances(self, connection: apsw.Connection, terms: Terms, who: int) -> tuple[Allowance, ...]:
        """What is left of each window that has a limit."""
        return tuple(self._known(connection, terms.key_id).book.allowances(who, self._tick(), terms))

    def _known(self, connection: apsw.Connection, key_id: str) -> _Known:
        known = self._keys.setdefault(key_id, _Known())
        for number, tick, who, instead_of in connection.execute(_SINCE, (key_id, known.last)):
            known.book.add(number, tick, who, instead_of=instead_of)
            known.last = number
        for (until,) in connection.execute(_PAUSED, (key_id,)):
            known.book.pause(until)
        return known

    @staticmethod
    def _write(connection: apsw.Connection, known: _Known, call: Call, instead_of: int | None) -> None:
        connection.execute(_COUNT, (call.key_id, call.number, call.tick, call.who, instead_of))
        known.book.add(call.number, call.tick, call.who, instead_of=instead_of)
        known.last = call.number
