"""Absence: concluded from two complete looks that agree, and never while the order may still come."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gateway.core.absence import (
    EVERY,
    WITNESS_BEFORE_MS,
    Absence,
    Mode,
    Sight,
    Terms,
    Witness,
    Witnesses,
    sight_of,
)
from gateway.core.listing import ListedOrder, Listing

LEDGER = "ledger-1"
SETTLE, INTERVAL = 60.0, 5.0


class Unsure(msgspec.Struct, frozen=True, kw_only=True):
    order_id: str = "x"
    version: int = 1
    created_tick: int = 0


def terms(mode: Mode = "witnessed") -> Terms:
    return Terms(mode=mode, settle_after_s=SETTLE, interval_s=INTERVAL)


def listed(upstream_id: str, order_id: str | None = None, ledger: str | None = LEDGER) -> ListedOrder:
    return ListedOrder(
        upstream_order_id=upstream_id,
        gateway_order_id=order_id,
        gateway_ledger=ledger if order_id else None,
        status="pending",
        text=b"{}",
    )


def listing(*orders: ListedOrder, whole: bool = True) -> Listing:
    return Listing(orders=orders, whole=whole)


def witnesses(*ticks: int, cut: bool = False) -> Witnesses:
    known = [Witness(order_id=f"w{at}", upstream_order_id=f"up-w{at}", tick=tick) for at, tick in enumerate(ticks)]
    return Witnesses(known=known, cut=cut)


def shown(found: Witnesses, *without: int) -> list[ListedOrder]:
    return [listed(w.upstream_order_id, w.order_id) for at, w in enumerate(found.known) if at not in without]


def seen(found: Listing, told: Witnesses = Witnesses(), mode: Mode = "witnessed") -> Sight:  # noqa: B008 - a frozen value, never changed
    return sight_of(found, witnesses=told, ledger_id=LEDGER, mode=mode)


# -- what a listing covers


def needed(told: Witnesses, claimed: int) -> set[int] | None:
    """The witnesses of an order, by the words of the promise; None where the oldest of them is not known."""
    ticks = [witness.tick for witness in told.known]
    within = {at for at, tick in enumerate(ticks) if tick >= claimed - WITNESS_BEFORE_MS}
    before = [at for at, tick in enumerate(ticks) if tick < claimed - WITNESS_BEFORE_MS]
    if told.cut and not before:
        return None
    return within | set(before[-1:])


HOURS = [0, WITNESS_BEFORE_MS - 1, WITNESS_BEFORE_MS, WITNESS_BEFORE_MS + 1, 2 * WITNESS_BEFORE_MS]


@pytest.mark.parametrize("cut", [False, True])
def test_a_listing_covers_an_order_exactly_where_it_holds_all_of_its_witnesses(cut: bool) -> None:
    for count in (1, 2, 3):
        for ticks in itertools.combinations_with_replacement(HOURS, count):
            told = witnesses(*ticks, cut=cut)
            for without in (set(some) for some in powerset(range(count))):
                covers_from = seen(listing(*shown(told, *without)), told).covers_from
                for claimed in {tick + move for tick in (*HOURS, 10**8) for move in (-1, 0, 1, WITNESS_BEFORE_MS)}:
                    needs = needed(told, claimed)
                    complete = needs is not None and not needs & without
                    assert (covers_from is not None and max(0, claimed) >= covers_from) == complete or claimed < 0


def powerset(of: Sequence[int]) -> Iterator[tuple[int, ...]]:
    return itertools.chain.from_iterable(itertools.combinations(of, size) for size in range(len(of) + 1))


@pytest.mark.parametrize(
    "spoiled",
    [
        listed("up-w1", None), listed("up-w1", "w1", "ledger-2"), listed("up-w1", "w1", None), listed("up-9", "w1"),
        listed("up-w1", "w2"),
    ],
)  # fmt: skip
def test_a_witness_without_its_metadata_or_under_another_id_bears_no_witness(spoiled: ListedOrder) -> None:
    told = witnesses(10, 20)
    assert seen(listing(*shown(told)), told).covers_from == EVERY
    assert seen(listing(*shown(told, 1), spoiled), told).covers_from is None
    assert seen(listing(*shown(told), spoiled), told).covers_from == EVERY


def test_where_nothing_is_known_only_an_empty_listing_says_anything() -> None:
    assert seen(listing()).covers_from == EVERY
    assert seen(listing(listed("up-1"))).covers_from is None
    assert seen(listing(), Witnesses(cut=True)).covers_from is None


def test_modes() -> None:
    told = witnesses(10)
    assert seen(listing(), told, "trusted").covers_from == EVERY
    assert seen(listing(listed("up-1")), told, "trusted").covers_from == EVERY
    for mode in ("witnessed", "trusted", "never"):
        assert seen(listing(*shown(told), whole=False), told, mode).covers_from is None
    assert seen(listing(*shown(told)), told, "never").covers_from is None


# -- sequences of looks, every one against the words of the promise

Step = Literal["same", "more", "less", "failed", "uncovered", "listed"]
STEPS: tuple[Step, ...] = ("same", "more", "less", "failed", "uncovered", "listed")


class Look(msgspec.Struct, frozen=True):
    began: float
    sight: Sight | None


def looks_of(steps: Sequence[Step], times: Sequence[float]) -> list[Look]:
    ids = 2
    found = []
    for step, began in zip(steps, times, strict=True):
        ids += {"more": 1, "less": -1}.get(step, 0)
        sight = Sight(
            covers_from=None if step == "uncovered" else EVERY,
            upstream_ids=frozenset(str(number) for number in range(ids)),
            order_ids=frozenset({"x"} if step == "listed" else ()),
        )
        found.append(Look(began, None if step == "failed" else sight))
    return found


def proven(looks: Sequence[Look], seen_at: float) -> bool:
    """Whether the last look ends a proof, said without a state."""
    last = looks[-1]
    if any(look.sight is not None and "x" in look.sight.order_ids for look in looks):
        return False
    for start, first in enumerate(looks[:-1]):
        chain = looks[start:]
        sights = [look.sight for look in chain if look.sight is not None and look.sight.covers_from is not None]
        if (
            len(sights) == len(chain)
            and all(one.upstream_ids <= two.upstream_ids for one, two in itertools.pairwise(sights))
            and first.began >= seen_at + SETTLE
            and last.began >= first.began + INTERVAL
        ):
            return True
    return False


@pytest.mark.parametrize("gaps", list(itertools.product([2.5, 5.0], repeat=3)))
@pytest.mark.parametrize("begins", [SETTLE - 2.5, SETTLE, SETTLE - 7.5])
def test_every_sequence_of_four_looks(begins: float, gaps: tuple[float, ...]) -> None:
    times = list(itertools.accumulate(gaps, initial=begins))
    for steps in itertools.product(STEPS, repeat=4):
        looks = looks_of(steps, times)
        absence = Absence(terms())
        absence.see([Unsure()], 0.0)
        for at, look in enumerate(looks):
            found = absence.looked(look.began, look.sight, [Unsure()])
            assert found.absent == (("x",) if proven(looks[: at + 1], 0.0) else ()), steps
            assert found.complete == (look.sight is not None and look.sight.covers_from is not None)


ALL_RIGHT = Sight(covers_from=EVERY, upstream_ids=frozenset(), order_ids=frozenset())


def test_an_orders_time_begins_anew_with_its_version() -> None:
    absence = Absence(terms())
    absence.see([Unsure()], 0.0)
    absence.looked(60, ALL_RIGHT, [Unsure()])
    again = Unsure(version=2)
    absence.see([again], 62.0)
    assert absence.last_ripe == 122.0
    assert not absence.looked(65, ALL_RIGHT, [again]).absent
    assert not absence.looked(121.9, ALL_RIGHT, [again]).absent
    assert not absence.looked(122, ALL_RIGHT, [again]).absent
    assert absence.looked(127, ALL_RIGHT, [again]).absent == ("x",)


def test_an_order_that_was_not_unknown_when_the_look_began_is_not_judged() -> None:
    absence = Absence(terms())
    absence.see([Unsure(), Unsure(order_id="y")], 0.0)
    absence.looked(60, ALL_RIGHT, [Unsure(), Unsure(order_id="y")])
    assert absence.looked(65, ALL_RIGHT, [Unsure()]).absent == ("x",)
    absence.see([], 66)
    assert absence.first_seen is None and absence.last_ripe is None
    assert absence.looked(70, ALL_RIGHT, []).complete


def test_each_order_is_judged_by_its_own_witnesses_and_its_own_time() -> None:
    old, new, late = (
        Unsure(order_id="old"),
        Unsure(order_id="new", created_tick=9),
        Unsure(order_id="late", created_tick=9),
    )
    sight = msgspec.structs.replace(ALL_RIGHT, covers_from=9)
    absence = Absence(terms())
    absence.see([old, new], 0.0)
    absence.see([old, new, late], 3.0)
    assert (absence.first_seen, absence.last_ripe) == (0.0, 63.0)
    everyone = [old, new, late]
    assert absence.looked(60, sight, everyone) == absence.looked(60, sight, everyone)
    found = absence.looked(66, sight, everyone)
    assert (found.absent, found.complete) == (("new",), False)
    assert set(absence.looked(71, sight, everyone).absent) == {"new", "late"}


def test_never_waits_for_no_time() -> None:
    absence = Absence(terms("never"))
    absence.see([Unsure()], 0.0)
    assert absence.last_ripe is None and absence.first_seen == 0.0


# -- a whole account, and listings that lie in every way that can be found out


class Taken(msgspec.Struct, frozen=True):
    at: float
    upstream_id: str
    order_id: str | None


class Sent(msgspec.Struct):
    """An order whose end nobody saw. `acts_at`: when OfferGrid acts on it, if ever, which nobody here may look at."""

    order: Unsure
    acts_at: float | None


class Account(RuleBasedStateMachine):
    """OfferGrid acts within SETTLE of an attempt's end or never; each lie leaves out a witness of what it hides."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.taken: list[Taken] = []
        self.known: list[Witness] = []
        self.sent: list[Sent] = []
        self.absence = Absence(terms())
        self.numbers = itertools.count()

    @initialize(orders=st.integers(1, 3))
    def _has_a_past(self, orders: int) -> None:
        for _ in range(orders):
            self.placed()

    @rule(seconds=st.sampled_from([0.5, 5.0, 20.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def placed(self) -> None:
        """An order whose answer came."""
        number = next(self.numbers)
        self.now += 0.001
        self.taken.append(Taken(self.now, f"up-{number}", f"id-{number}"))
        self.known.append(
            Witness(order_id=f"id-{number}", upstream_order_id=f"up-{number}", tick=int(self.now * 1000))
        )

    @rule()
    def placed_by_hand(self) -> None:
        self.taken.append(Taken(self.now, f"up-{next(self.numbers)}", None))

    @rule(acts_in=st.none() | st.floats(0, SETTLE))
    def broke_off(self, acts_in: float | None) -> None:
        number = next(self.numbers)
        order = Unsure(order_id=f"id-{number}", created_tick=int(self.now * 1000))
        self.now += 1
        self.sent.append(Sent(order, None if acts_in is None else self.now + acts_in))

    @precondition(lambda self: self.sent)
    @rule(
        lie=st.sampled_from(["none", "none", "none", "stale", "short", "other", "bare", "failed", "page"]),
        size=st.integers(0, 3),
        takes=st.sampled_from([0.0, 3.0]),
    )
    def look(self, lie: str, size: int, takes: float) -> None:
        if lie == "stale":
            cutoff = self.now
            self.placed()  # known before the listing is asked for, and younger than it
        orders = [sent.order for sent in self.sent]
        self.absence.see(orders, self.now)
        told, began = Witnesses(known=tuple(self.known)), self.now
        self.now += takes
        for sent in self.sent:
            if sent.acts_at is not None and sent.acts_at <= self.now:
                self.taken.append(Taken(sent.acts_at, f"up-of-{sent.order.order_id}", sent.order.order_id))
                sent.acts_at = None
        rows = sorted(self.taken, key=lambda taken: taken.at)
        if lie == "stale":
            rows = [taken for taken in rows if taken.at <= cutoff]
        elif lie == "short":
            rows = rows[
                max(1, len(rows) - size) :
            ]  # the newest; the oldest witness is older than any order in doubt
        elif lie == "other":
            rows = [Taken(taken.at, "theirs-" + taken.upstream_id, None) for taken in rows[:size]]
        found = listing(
            *(listed(taken.upstream_id, None if lie == "bare" else taken.order_id) for taken in rows),
            whole=lie != "page",
        )
        sight = None if lie == "failed" else seen(found, told)
        self._settle(self.absence.looked(began, sight, orders).absent, found if sight else listing())

    def _settle(self, absent: Sequence[str], found: Listing) -> None:
        here = {order.gateway_order_id for order in found.orders}
        there = {taken.order_id for taken in self.taken}
        for sent in list(self.sent):
            order_id = sent.order.order_id
            assert not (order_id in absent and order_id in here)
            if order_id in absent:
                assert order_id not in there, "OfferGrid has it"
                assert sent.acts_at is None, "OfferGrid will have it"
            if order_id in here:
                self.known.append(
                    Witness(order_id=order_id, upstream_order_id=f"up-of-{order_id}", tick=int(self.now * 1000))
                )
            if order_id in absent or order_id in here:
                self.sent.remove(sent)

    @precondition(lambda self: self.sent)
    @rule()
    def once_all_is_well_two_looks_settle_everything(self) -> None:
        self.look("none", 0, 0.0)
        self.now += SETTLE
        self.look("none", 0, 0.0)
        self.now += INTERVAL
        self.look("none", 0, 0.0)
        assert not self.sent


Account.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestAccount: Any = Account.TestCase


def test_what_is_remembered_is_bounded_by_what_is_unknown() -> None:
    absence = Absence(terms())
    for at, count in enumerate((3, 1, 0, 2)):
        orders = [Unsure(order_id=str(number)) for number in range(count)]
        absence.see(orders, at * 30.0)
        absence.looked(at * 30.0, ALL_RIGHT, orders)
        assert len(absence._proofs) == count
