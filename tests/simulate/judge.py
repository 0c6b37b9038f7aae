"""The invariants, asked of three records that know nothing of each other: what tenants were told, what OfferGrid
really took, and what the ledger holds, with the history of each of its rows.
"""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.simulate.plan import ABSENCE_IS_PROVEN
from tests.simulate.simulated_upstream import Taken
from tests.simulate.tenants import Wish

if TYPE_CHECKING:
    from tests.simulate.history import History

ALLOWED: Final = frozenset({
    (None, "queued"), (None, "in_flight"), ("queued", "in_flight"), ("queued", "not_placed"),
    ("in_flight", "in_flight"), ("in_flight", "placed"), ("in_flight", "rejected"), ("in_flight", "not_placed"),
    ("in_flight", "unknown"), ("unknown", "placed"), ("unknown", "not_placed"), ("not_placed", "in_flight"),
    ("not_placed", "queued"), ("not_placed", "placed"), ("placed", None), ("rejected", None), ("not_placed", None),
})  # fmt: skip
"""Written out once more, not taken from the gateway: a wrong row there must not be right here."""

CERTAIN: Final = frozenset({("not_sent", None), ("answered", 429), ("answered", 401), ("answered", 403)})
"""What may be followed by another attempt without anybody having looked."""

SETTLED: Final = ("placed", "rejected", "not_placed")


class Move(msgspec.Struct, kw_only=True, frozen=True):
    at: float
    version: int
    before: str | None
    after: str | None


class Judge:
    def __init__(self, history: "History") -> None:
        self.history = history
        self.world, self.grid, self.plan = history.world, history.grid, history.plan
        self.real = history.disk.real
        self.rows: dict[str, Any] = {row[0]: row for row in self._all(
            "SELECT order_id, tenant, outcome, upstream_order_id, team_id FROM orders"
        )}  # fmt: skip
        self.moves: defaultdict[str, list[Move]] = defaultdict(list)
        for at, order_id, version, before, after in self._all(
            "SELECT at, order_id, version, before, after FROM sim_history ORDER BY rowid"
        ):
            self.moves[order_id].append(Move(at=at, version=version, before=before, after=after))
        self.sound = self.plan.mode == "sound"
        self.taken: defaultdict[str, list[Taken]] = defaultdict(list)
        for taken in self.grid.taken:
            if not taken.doubled:
                self.taken[taken.post.order_id].append(taken)

    def _all(self, statement: str) -> Sequence[Any]:
        found: list[Any] = self.real.execute(statement).fetchall()
        return found

    def wrong(self, fault: str) -> None:
        self.world.wrong(fault)

    def nothing_in_doubt(self) -> None:
        """Faults healed, and time given: no order is left unsettled, but what only an operator may settle."""
        never = self.plan.settings.absence == "never"
        witnessed = {row[4] for row in self.rows.values() if row[2] == "placed"}
        for order_id, (_, _, outcome, _, team_id) in self.rows.items():
            cannot_be_told = never or (self.plan.foreign and team_id not in witnessed)
            left_alone = cannot_be_told and outcome == "unknown" and order_id not in self.taken
            if outcome not in SETTLED and not left_alone:
                self.wrong(f"{order_id} is still {outcome}")

    def only_known_moves(self) -> None:
        for order_id, moves in self.moves.items():
            before, version = None, 0
            for move in moves:
                same = move.before == move.after and move.after in ("placed", "rejected", "not_placed", "unknown")
                if (move.before, move.after) not in ALLOWED and not same:
                    self.wrong(f"{order_id} went from {move.before} to {move.after}")
                if move.before != before or (move.after is not None and move.version != version + 1):
                    self.wrong(f"{order_id} jumped from version {version} {before} to {move}")
                before, version = move.after, move.version

    def one_order_each(self) -> None:
        """At most one order at OfferGrid for each order of the ledger, and for each wish of a tenant."""
        keys = {(wish.tenant.name, wish.ref): wish for wish in self.history.tenants.wishes}
        wished: defaultdict[tuple[str, str], list[Taken]] = defaultdict(list)
        for order_id, found in self.taken.items():
            if len(found) > 1 and self.sound:
                self.wrong(f"OfferGrid took {order_id} {len(found)} times")
            for taken in found:
                wish = keys.get((taken.post.tenant, taken.post.ref))
                if wish is None:
                    self.wrong(f"OfferGrid took {taken.post.ref} for {taken.post.tenant}, who never asked for it")
                else:
                    wished[wish.tenant.name, wish.key or wish.ref].append(taken)
        if self.sound:
            for (tenant, key), found in wished.items():
                self._far_enough_apart(tenant, key, sorted(found, key=lambda taken: taken.post.at))

    def _far_enough_apart(self, tenant: str, key: str, found: list[Taken]) -> None:
        """A second order for the same key or body is right only after the first one's has been forgotten."""
        settings = self.plan.settings
        kept_s = settings.ttl_s if key.startswith("key-") else settings.implicit_window_s
        for first, second in itertools.pairwise(found):
            moves = self.moves[first.post.order_id]
            settled = [move.at for move in moves if move.after in SETTLED and move.before != move.after]
            if not settled or second.post.at < settled[-1] + kept_s:
                self.wrong(f"{tenant} has two orders for {key}: {first.upstream_id}, {second.upstream_id}")

    def ledger_agrees_with_upstream(self) -> None:
        for order_id, found in self.taken.items():
            row, moves = self.rows.get(order_id), self.moves[order_id]
            if self._rejected_and_late(order_id, found):
                continue
            if row is None:
                if not moves or moves[-1].before != "placed":
                    self.wrong(f"OfferGrid has {found[0].upstream_id}, and the ledger no {order_id}")
                continue
            ids = {taken.upstream_id for taken in self.grid.taken if taken.post.order_id == order_id}
            if row[2] != "placed" or row[3] not in ids:
                self.wrong(f"OfferGrid has {ids}, and the ledger says {order_id} is {row[2]} as {row[3]}")
            for move in moves:
                denied = move.after in ("not_placed", "rejected") and move.before != move.after
                if self.sound and denied and any(taken.post.at < move.at for taken in found):
                    self.wrong(f"{order_id} was called {move.after} at {move.at:.3f}, and OfferGrid took it")
        real = {taken.upstream_id: taken for taken in self.grid.taken}
        for order_id, row in self.rows.items():
            if row[2] == "placed" and (row[3] not in real or real[row[3]].post.order_id != order_id):
                self.wrong(f"the ledger says {order_id} is placed as {row[3]}, which OfferGrid does not have")

    def _rejected_and_late(self, order_id: str, found: Sequence[Taken]) -> bool:
        """Where OfferGrid acts too late, it may refuse a later attempt and then act on the first one. The order stays
        rejected, as its tenant was told, and all of them are noted.
        """
        noted = {row[0] for row in self._all("SELECT upstream_order_id FROM strays WHERE kind = 'late'")}
        rejected = any(move.after == "rejected" for move in self.moves[order_id])
        return not self.sound and rejected and all(taken.upstream_id in noted for taken in found)

    def nothing_in_silence(self) -> None:
        """Where OfferGrid broke what the promise assumes: whatever it has too many of was noticed, and counted."""
        noted = {(team_id, upstream_id): kind for team_id, upstream_id, kind in self._all(
            "SELECT team_id, upstream_order_id, kind FROM strays"
        )}  # fmt: skip
        for taken in self.grid.taken:
            row = self.rows.get(taken.post.order_id)
            stray = noted.get((taken.post.team_id, taken.upstream_id))
            settled_with = row is not None and row[3] == taken.upstream_id
            if settled_with and stray is not None:
                self.wrong(f"{taken.upstream_id} is a stray, and {taken.post.order_id} is settled with it")
            if self.sound and stray == "late":
                self.wrong(f"{taken.upstream_id} is called late, and OfferGrid took it in time")
            if not self.sound and row is not None and not settled_with and stray is None:
                self.wrong(f"OfferGrid has {taken.upstream_id} besides, and nobody noticed")
        counted = self.history.machine.tally.counted
        late = sum(
            move.before == "not_placed" and move.after == "placed"
            for moves in self.moves.values()
            for move in moves
        )
        if self.sound and late:
            self.wrong(f"{late} orders were found late")
        if counted["late_placement"] > late + sum(kind == "late" for kind in noted.values()):
            self.wrong(f"{counted['late_placement']} late placements counted, {late} found")
        if counted["duplicates"] > sum(kind == "duplicate" for kind in noted.values()):
            self.wrong(f"{counted['duplicates']} duplicates counted, {noted} noted")

    def told_the_truth(self) -> None:
        real = {taken.upstream_id: taken for taken in self.grid.taken}
        bytes_told: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for told in self.history.tenants.told:
            wish, row = told.wish, self.rows.get(told.order_id or "")
            about = f"{wish.tenant.name} was told at {told.at:.3f} of {told.order_id}: {told.kind}"
            if told.order_id is not None and not self.moves[told.order_id]:
                self.wrong(f"{about}, which the ledger never knew")
            if row is not None and row[1] != wish.tenant.name:
                self.wrong(f"{about}, which is {row[1]}'s")
            if told.kind == "placed":
                taken = real.get(told.upstream_id or "")
                if taken is None or (taken.post.ref, taken.post.tenant) != (wish.ref, wish.tenant.name):
                    self.wrong(f"{about}, {told.upstream_id}: not what it asked for ({wish.ref})")
                elif taken.post.order_id != told.order_id or told.ref not in (wish.ref, None):
                    self.wrong(f"{about}, {told.upstream_id}: another order's")
            if told.final and told.order_id is not None:
                bytes_told[told.order_id, told.kind].add(told.digest if told.kind == "placed" else "")
                expected = "placed" if told.kind == "placed" else "rejected"
                if row is not None and (row[2] != expected or row[3] != told.upstream_id):
                    self.wrong(f"{about} as {told.upstream_id}, and the ledger says {row[2]} as {row[3]}")
            if told.kind == "internal-error":
                self.wrong(about)
            if told.kind == "idempotency-key-reused" and len(self._asked_under(wish)) < 2:
                self.wrong(about)
        for (order_id, kind), digests in bytes_told.items():
            if len(digests) > 1:
                self.wrong(f"{order_id} was told as {kind} with {len(digests)} different bodies")

    def _asked_under(self, wish: Wish) -> set[str]:
        """The different bodies that the tenant sent under the wish's key."""
        wishes = self.history.tenants.wishes
        return {other.ref for other in wishes if (other.tenant, other.key) == (wish.tenant, wish.key)}

    def attempts_are_counted(self) -> None:
        attempts: defaultdict[str, list[Any]] = defaultdict(list)
        for order_id, number, evidence, status in self._all("SELECT * FROM sim_attempts ORDER BY order_id, number"):
            attempts[order_id].append((number, evidence, status))
        posts: defaultdict[tuple[str, int], int] = defaultdict(int)
        for post in self.grid.posts:
            posts[post.order_id, post.attempt] += 1
        for (order_id, number), count in posts.items():
            if count > 1:
                self.wrong(f"attempt {number} of {order_id} was sent {count} times")
        for order_id, made in attempts.items():
            looked = sum(move.before == "unknown" and move.after == "not_placed" for move in self.moves[order_id])
            doubtful = [number for number, *evidence in made[:-1] if tuple(evidence) not in CERTAIN]
            if len(doubtful) > looked:
                self.wrong(
                    f"{order_id} was sent again after attempts {doubtful} in doubt; looked for {looked} times"
                )
            for number, evidence, _ in made:
                if evidence == "not_sent" and posts.get((order_id, number)):
                    self.wrong(f"attempt {number} of {order_id} is called not sent, and bytes of it went out")


def judge(history: "History", moment: str) -> None:
    """Adds what is wrong to the history's faults. `settled`: right after healing; `end`: after all was asked again."""
    found = Judge(history)
    found.nothing_in_doubt()
    if moment == "end":
        found.only_known_moves()
        found.one_order_each()
        found.ledger_agrees_with_upstream()
        found.told_the_truth()
        found.attempts_are_counted()
        if ABSENCE_IS_PROVEN:
            found.nothing_in_silence()
