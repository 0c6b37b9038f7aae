"""Looking for orders: what is found is settled, what is proven absent is watched, and everything else stays unknown."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from gateway.broker.directory import KeyUnreadable, LentKey
from gateway.broker.vault import Secret
from gateway.core.absence import Mode, Terms
from gateway.core.cadence import PACE_WINDOW_S
from gateway.core.evidence import Answered, Evidence, Sent
from gateway.core.listing import Page, read_page
from gateway.errors import LedgerError
from gateway.flow import looking, reconcile
from gateway.ledger.interface import Claimed
from tests.flow.flow_tools import until
from tests.flow.reconcile_tools import (
    INTERVAL,
    SETTLE,
    WATCH,
    Grid,
    MovedClock,
    Room,
    a_room,
    answer,
    entry,
)
from tests.ledger.ledger_tools import START, alter, claimed, dump, new_order

ON_TIME = SETTLE + 3 * INTERVAL
DUPLICATES = "ordergate_duplicates_total"
LATE = "ordergate_late_placements_total"
FOREIGN = "ordergate_foreign_orders_total"


def test_an_order_that_two_complete_looks_do_not_show_is_not_placed(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            await room.order("placed", "up-1")
            order_id = await room.order()
            await room.pass_by(SETTLE - 1)
            assert len(room.grid.asked) == 3, "the rest of the minute is kept for the proof"
            await room.pass_by(INTERVAL)
            assert await room.outcome(order_id) == "unknown"
            await room.pass_by(2 * INTERVAL)
            stored = await room.stored(order_id)
            assert (stored.outcome, stored.cause, stored.http_status) == ("not_placed", "absent", 502)
            assert stored.settled_ms is not None and stored.upstream_order_id is None
            assert room.results() == {"nothing": 4, "absent": 1}
            assert [watched.order_id for watched in await room.ledger.watched()] == [order_id]
            # It can be tried again, under its own id.
            again = await room.ledger.claim(new_order("k"), START)
            assert isinstance(again, Claimed)

    asyncio.run(play())


def test_absence_takes_as_long_after_a_restart(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            order_id = await room.order()
            await room.pass_by(SETTLE)
        async with a_room(tmp_path / "o.db", clock=room.clock, grid=room.grid) as again:
            asked = len(again.grid.asked)
            await again.pass_by(SETTLE - 1)
            assert len(again.grid.asked) > asked
            assert await again.outcome(order_id) == "unknown"
            await again.pass_by(3 * INTERVAL + 1)
            assert await again.outcome(order_id) == "not_placed"

    asyncio.run(play())


LIES: dict[str, Any] = {
    "fails": answer([], status=500),
    "breaks off": Sent(reason="broken"),
    "is throttled": answer({"message": "too many"}, status=429),
    "is unreadable": Answered(status=200, body=b"<html>"),
    "is empty": answer([]),
    "is another account's": answer([entry("up-9", "id-9", ledger="ledger-9")]),
    "lacks the last order": answer([entry("up-0")]),
    "says that there is more": {"hasMore": True},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_listing_that_is_not_complete_decides_nothing(tmp_path: Path, lie: Any) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            await room.order("placed", "up-1")
            order_id = await room.order()
            said = lie if not isinstance(lie, dict) else answer({"data": room.grid.rows["team-1"], **lie})
            room.grid.says = lambda *_: said
            await room.pass_by(590)
            assert await room.outcome(order_id) == "unknown"
            assert set(room.results()) <= {"failed", "unreadable", "incomplete"}
            room.grid.says = None
            await room.pass_by(ON_TIME)
            assert await room.outcome(order_id) == "not_placed"

    asyncio.run(play())


@pytest.mark.parametrize(
    ("mode", "outcome"), [("witnessed", "unknown"), ("trusted", "not_placed"), ("never", "unknown")]
)
def test_what_is_asked_of_a_listing_is_a_setting(tmp_path: Path, mode: Mode, outcome: str) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db", mode=mode) as room:
            await room.order("placed", "up-1")
            order_id = await room.order()
            room.grid.rows.clear()
            await room.pass_by(ON_TIME)
            assert await room.outcome(order_id) == outcome
            if mode == "never":
                assert set(room.results()) == {"nothing"} and room.results()["nothing"] > 5

    asyncio.run(play())


def test_what_is_placed_while_the_listing_is_on_its_way_need_not_be_in_it(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            order_id = await room.order()

            async def late(*_: object) -> Evidence:
                rows = list(room.grid.rows.get("team-1", []))
                await room.order("placed", f"up-{len(rows)}")
                return answer(rows)

            room.grid.says = late
            await room.pass_by(ON_TIME)
            assert await room.outcome(order_id) == "not_placed"

    asyncio.run(play())


def test_an_order_that_is_listed_is_placed_as_it_is_listed(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            order_id = await room.order()
            room.lists(entry("up-1", order_id))
            await room.pass_by(INTERVAL + 1)
            stored = await room.stored(order_id)
            assert (stored.outcome, stored.upstream_order_id, stored.http_status) == ("placed", "up-1", 201)
            assert room.results() == {"found": 1}
            assert not await room.ledger.watched() and room.count(DUPLICATES) == 0

    asyncio.run(play())


def test_several_upstream_orders_of_one_are_an_alarm_each_once_and_for_all(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            order_id = await room.order()
            room.lists(*(entry(f"up-{number}", order_id) for number in (1, 2, 3, 2, 1)))
            await room.pass_by(INTERVAL + 1)
            assert (await room.stored(order_id)).upstream_order_id == "up-1"
            assert room.count(DUPLICATES) == 2
            assert [line["upstream_order_id"] for line in room.logged("duplicate")] == ["up-2", "up-3"]
            await room.pass_by(130 * INTERVAL, step=20)
            assert room.count(DUPLICATES) == 2
        async with a_room(tmp_path / "o.db", clock=room.clock, grid=room.grid) as again:
            await again.pass_by(130 * INTERVAL, step=20)
            assert again.count(DUPLICATES) == 0
            assert [row[2] for row in dump(room.path, "strays")] == ["up-2", "up-3"]
            # A patrol sees a third one that comes later.
            again.lists(entry("up-4", order_id))
            await again.pass_by(130 * INTERVAL, step=20)
            assert again.count(DUPLICATES) == 1

    asyncio.run(play())


async def absent(room: Room, key: str | None = None) -> str:
    order_id = await room.order(key=key)
    await room.pass_by(ON_TIME)
    assert await room.outcome(order_id) == "not_placed"
    return order_id


def test_an_order_that_turns_up_while_it_is_watched_is_placed_and_an_alarm(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            order_id = await absent(room)
            room.lists(entry("up-1", order_id))
            await room.pass_by(12 * INTERVAL + 1)
            stored = await room.stored(order_id)
            assert (stored.outcome, stored.cause, stored.upstream_order_id) == ("placed", "late", "up-1")
            assert (room.count(LATE), room.count(DUPLICATES)) == (1, 0)
            assert room.logged("late_placement")[0]["order_id"] == order_id
            await room.pass_by(130 * INTERVAL, step=20)
            assert room.count(LATE) == 1

    asyncio.run(play())


def test_an_order_that_turns_up_twice_is_both(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            order_id = await absent(room)
            room.lists(entry("up-1", order_id), entry("up-2", order_id))
            await room.pass_by(12 * INTERVAL + 1)
            assert (await room.stored(order_id)).upstream_order_id == "up-1"
            assert (room.count(LATE), room.count(DUPLICATES)) == (1, 1)

    asyncio.run(play())


def test_an_order_that_turns_up_after_it_was_tried_again_is_a_duplicate(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            order_id = await absent(room, "k")
            taken = await claimed(room.ledger, new_order("k"))
            assert taken.order_id == order_id
            room.lists(entry("up-1", order_id))
            await room.pass_by(12 * INTERVAL + 1)
            assert await room.outcome(order_id) == "in_flight", "its owner will say"
            await room.ends(taken, "placed", "up-2")
            room.lists(entry("up-2", order_id))
            await room.pass_by(12 * INTERVAL + 1)
            assert (await room.stored(order_id)).upstream_order_id == "up-2"
            assert (room.count(DUPLICATES), room.count(LATE)) == (1, 0)
            assert room.logged("duplicate")[0]["upstream_order_id"] == "up-1"

    asyncio.run(play())


def test_nobody_watches_for_ever(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            await absent(room)
            await room.pass_by(WATCH + 1, step=30)
            assert not await room.ledger.watched()
            asked = len(room.grid.asked)
            await room.pass_by(100 * INTERVAL, step=20)
            assert len(room.grid.asked) - asked <= 4, "patrols alone, of two teams"

    asyncio.run(play())


def test_an_order_that_offergrid_refused_and_has_is_an_alarm_and_stays(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            order_id = await room.order("rejected")
            room.lists(entry("up-1", order_id))
            for _ in range(2):
                await room.pass_by(121 * INTERVAL, step=20)
                assert await room.outcome(order_id) == "rejected"
                assert (room.count(LATE), len(room.logged("late_placement"))) == (1, 1)
            assert [row[1:5] for row in dump(room.path, "strays")] == [(1, "up-1", order_id, "late")]

    asyncio.run(play())


def test_a_patrol_places_what_was_called_not_placed(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            order_id = await room.order("not_placed")
            room.lists(entry("up-1", order_id))
            await room.pass_by(121 * INTERVAL, step=20)
            assert await room.outcome(order_id) == "placed"
            assert room.count(LATE) == 1

    asyncio.run(play())


def test_orders_of_another_ledger_are_counted_once(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            await room.order("placed", "up-0")
            room.lists(*(entry(f"up-{n}", f"id-{n}", ledger="ledger-2") for n in (1, 2)), entry("up-3"))
            await room.pass_by(100 * INTERVAL, step=20)
            assert not room.grid.asked and room.count(FOREIGN) == 0
            await room.pass_by(30 * INTERVAL, step=20)
            assert room.count(FOREIGN) == 2
            room.lists(entry("up-4", "id-4", ledger="ledger-3"))
            await room.pass_by(260 * INTERVAL, step=20)
            assert room.count(FOREIGN) == 3
            assert len(room.logged("foreign_orders")) == 2
            assert room.count(LATE) == room.count(DUPLICATES) == 0

    asyncio.run(play())


def test_one_upstream_order_is_not_two_of_ours(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            await room.order("placed", "up-1")
            order_id, gone = await room.order(), await room.order("not_placed")
            room.lists(entry("up-1", order_id), entry("up-1", gone))
            await room.pass_by(200 * INTERVAL, step=20)
            assert (await room.outcome(order_id), await room.outcome(gone)) == ("unknown", "not_placed")
            assert {line["order_id"] for line in room.logged("reconcile")} == {order_id, gone}

    asyncio.run(play())


@pytest.mark.parametrize("trouble", ["raises", "hangs", "has no key", "has a key that cannot be read"])
def test_one_teams_trouble_holds_up_no_other(tmp_path: Path, trouble: str) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            mine, theirs = await room.order(team_id=1), await room.order(team_id=2)
            goes_on = asyncio.Event()

            async def says(team: str, _: str | None) -> Evidence:
                if team == "team-1" and trouble == "raises":
                    raise RuntimeError("a defect")
                if team == "team-1" and trouble == "hangs":
                    await goes_on.wait()
                return answer(room.grid.rows.get(team, []))

            room.grid.says = says
            if trouble == "has no key":
                del room.keys[1]
            elif trouble.startswith("has a key"):
                room.keys[1] = KeyUnreadable(key_id="team-1")
            async with asyncio.TaskGroup() as looks:
                while await room.outcome(theirs) == "unknown":
                    await room.reconciler._start_looking(looks)
                    room.clock.now += 1
                    await asyncio.sleep(0.01)
                assert await room.outcome(mine) == "unknown"
                for _ in range(20):
                    room.clock.now += 1
                    await room.reconciler._start_looking(looks)
                if trouble == "hangs":
                    assert [team for _, team, _ in room.grid.asked].count("team-1") == 1, "one look at a time"
                goes_on.set()
            assert bool(room.logged("defect")) == (trouble == "raises")
            assert ("no_key" in room.results()) == ("key" in trouble)

    asyncio.run(play())


@pytest.mark.parametrize("trouble", ["a defect", "a ledger that fails"])
def test_a_look_that_came_to_nothing_begins_the_proof_anew(tmp_path: Path, trouble: str) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            order_id = await room.order()
            await room.pass_by(SETTLE + 1)
            if trouble == "a defect":
                room.grid.says = lambda *_: 5  # type: ignore[assignment]  # a defect
            else:
                Refusing(room, "witnesses", 1)
            await room.pass_by(INTERVAL)
            room.grid.says = None
            assert room.logged("defect") or room.logged("ledger")
            for _ in range(3):
                looked = len(room.grid.asked)
                while len(room.grid.asked) == looked:
                    assert await room.outcome(order_id) == "unknown"
                    await room.pass_by(1)
                if await room.outcome(order_id) == "not_placed":
                    break
            assert room.results()["nothing"] == 5 and room.results()["absent"] == 1

    asyncio.run(play())


def test_a_team_with_nothing_in_doubt_and_no_key_is_left_alone(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            del room.keys[2]
            await room.pass_by(300 * INTERVAL, step=20)
            assert room.results() == {"nothing": 2}

    asyncio.run(play())


class Refusing:
    """Makes a ledger's method fail so many times."""

    def __init__(self, room: Room, method: str, times: int) -> None:
        self.left, self._method = times, getattr(room.ledger, method)
        setattr(room.ledger, method, self._called)

    async def _called(self, *args: Any, **more: Any) -> Any:
        if self.left > 0:
            self.left -= 1
            raise LedgerError("a test says so")
        return await self._method(*args, **more)


@pytest.mark.parametrize(
    "method",
    ["unknown", "watched", "witnesses", "settle_found", "settle_absent", "states", "note_stray", "settle_late"],
)
def test_a_ledger_that_fails_is_asked_again(tmp_path: Path, method: str) -> None:
    async def play() -> None:
        terms = Terms(mode="witnessed", settle_after_s=0.4, interval_s=0.1)
        async with a_room(tmp_path / "o.db", terms=terms, per_minute=1000) as room:
            gone, there, late = await room.order(), await room.order(), await absent_at_once(room)
            room.lists(entry("up-1", there), entry("up-2", there), entry("up-3", late))
            refusing = Refusing(room, method, 2)

            async def time_passes() -> None:
                while True:
                    room.clock.now += 0.02
                    await asyncio.sleep(0.001)

            running = asyncio.create_task(room.reconciler.run())
            passing = asyncio.create_task(time_passes())

            async def settled() -> bool:
                outcomes = [await room.outcome(order_id) for order_id in (gone, there, late)]
                return outcomes == ["not_placed", "placed", "placed"] and room.count(DUPLICATES) == 1

            await until(settled)
            assert refusing.left == 0
            assert room.logged("ledger")
            for task in (running, passing):
                task.cancel()
            await asyncio.wait([running, passing])

    asyncio.run(play())


async def absent_at_once(room: Room) -> str:
    order_id = await room.order()
    (unknown,) = [order for order in await room.ledger.unknown() if order.order_id == order_id]
    await room.ledger.settle_absent(unknown, settled_ms=1, watch_ms=10**7)
    return order_id


def test_a_defect_between_looks_does_not_end_them(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(
            tmp_path / "o.db", terms=Terms(mode="witnessed", settle_after_s=1, interval_s=0.01)
        ) as room:
            room.keys.names = {1: "team-1", 3: None}  # type: ignore[dict-item]  # a defect
            teams = room.keys.teams
            broken = iter([RuntimeError("a defect")])

            def once_broken() -> Any:
                for fault in broken:
                    raise fault
                return teams()

            room.keys.teams = once_broken  # type: ignore[method-assign]  # a defect
            running = asyncio.create_task(room.reconciler.run())

            async def goes_on() -> bool:
                return bool(room.logged("defect")) and bool(room.reconciler._teams)

            await until(goes_on)
            running.cancel()
            await asyncio.wait([running])

    asyncio.run(play())


def test_who_does_not_lead_does_not_look_and_knows_nothing_when_it_comes_to(tmp_path: Path) -> None:
    async def play() -> None:
        clock = MovedClock()
        async with a_room(tmp_path / "o.db", clock=clock, grid=Grid(clock)) as second:
            async with a_room(tmp_path / "o.db", clock=clock, grid=Grid(clock)) as first:
                order_id = await first.order()
                await first.pass_by(1)
                await second.pass_by(SETTLE)
                assert first.grid.asked and not second.grid.asked
            await second.pass_by(SETTLE - 1)
            assert second.grid.asked
            assert await second.outcome(order_id) == "unknown"
            await second.pass_by(3 * INTERVAL + 1)
            assert await second.outcome(order_id) == "not_placed"

    asyncio.run(play())


def test_a_ledger_in_quarantine_is_not_looked_after(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            order_id = await room.order()
            room.intake.quarantined = True
            await room.pass_by(SETTLE)
            assert not room.grid.asked
            room.intake.quarantined = False
            await room.pass_by(SETTLE - 1)
            assert await room.outcome(order_id) == "unknown"
            await room.pass_by(3 * INTERVAL + 1)
            assert await room.outcome(order_id) == "not_placed"

    asyncio.run(play())


def test_a_team_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            order_id = await room.order(team_id=2)
            await room.pass_by(1)
            del room.keys.names[2]
            await room.pass_by(1)
            assert set(room.reconciler._teams) == {1, 2}, "it has an order in doubt"
            room.lists(entry("up-1", order_id), team="team-2")
            await room.pass_by(INTERVAL)
            assert await room.outcome(order_id) == "placed"
            await room.pass_by(1)
            assert set(room.reconciler._teams) == {1}

    asyncio.run(play())


# -- pages

ROWS = [entry(f"up-{number}", f"id-{number}") for number in range(6)]


def paged(rows: list[dict[str, Any]], size: int, *, fails_at: int | None = None, odd: str | None = None) -> Any:
    """Listings in pages of `size`, each naming the next as a path."""

    def says(_: str, page: str | None) -> Evidence:
        start = 0 if page is None else int(page.rpartition("=")[2])
        if start == fails_at:
            return Sent(reason="timeout")
        more = start + size < len(rows)
        after = odd if odd is not None and start else f"/reseller/orders?start={start + size}"
        return answer({"data": rows[start : start + size], "next": after if more else None})

    return says


def test_pages_are_followed_to_their_end(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db", per_minute=20) as room:
            there, gone = await room.order(), await room.order()
            witness = await room.order("placed", "up-w")
            room.grid.says = paged([*ROWS, entry("up-x", there), entry("up-w", witness)], 3)
            await room.pass_by(INTERVAL + 1)
            assert (await room.stored(there)).upstream_order_id == "up-x"
            pages = [page for _, _, page in room.grid.asked]
            assert pages[:3] == [None, "/reseller/orders?start=3", "/reseller/orders?start=6"]
            await room.pass_by(ON_TIME)
            assert await room.outcome(gone) == "not_placed"

    asyncio.run(play())


def test_a_reserve_of_two_listings_is_enough_for_a_proof(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db", per_minute=7) as room:
            gone, witness = await room.order(), await room.order("placed", "up-w")
            room.grid.says = paged([*ROWS, entry("up-w", witness)], 3)
            await room.pass_by(ON_TIME)
            assert await room.outcome(gone) == "not_placed"
            assert room.results() == {"nothing": 2, "absent": 1}

    asyncio.run(play())


@pytest.mark.parametrize(("per_minute", "pages"), [(2, 4), (5, 30), (1, 3)])
def test_a_listing_of_more_pages_than_the_reserve_waits_for_each_and_proves_all_the_same(
    tmp_path: Path, per_minute: int, pages: int
) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db", per_minute=per_minute) as room:
            rows = [entry(f"up-{number}", f"id-{number}") for number in range(2 * pages - 2)]
            witness = await room.order("placed", "up-w")
            there, gone = await room.order(), await room.order()
            room.grid.says = paged([*rows, entry("up-w", witness), entry("up-x", there)], 2)
            takes = PACE_WINDOW_S * pages / per_minute
            await room.pass_by(2 * SETTLE + 4 * takes)
            assert (await room.outcome(there), await room.outcome(gone)) == ("placed", "not_placed")
            asked = [at for at, team, _ in room.grid.asked if team == "team-1"]
            windows = [sum(start <= at < start + PACE_WINDOW_S for at in asked) for start in asked]
            assert max(windows) <= per_minute
            said = room.logged("slow_listing")
            assert said[0]["team"] == "team-1" and said[0]["count"] == pages
            assert said[0]["seconds"] >= takes - PACE_WINDOW_S
            assert not room.logged("listing_too_long")

    asyncio.run(play())


def test_each_page_has_its_own_time(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db", per_minute=50) as room:
            there = await room.order()
            says = paged([*ROWS, entry("up-x", there)], 1)
            left: list[float] = []
            listed = room.grid.list_orders

            async def slow(*, deadline: float, **more: Any) -> Evidence:
                left.append(deadline - room.clock.now)
                room.clock.now += 29
                return await listed(deadline=deadline, **more)

            room.grid.says = says
            room.grid.list_orders = slow  # type: ignore[method-assign]  # each page takes almost all of its time
            await room.pass_by(INTERVAL + 1)
            assert await room.outcome(there) == "placed"
            assert left[: len(ROWS) + 1] == [looking.PAGE_TIMEOUT_S] * (len(ROWS) + 1)

    asyncio.run(play())


@pytest.mark.parametrize("limit", ["pages", "time"])
def test_a_listing_without_end_is_given_up_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(looking, *(("MAX_PAGES", 12) if limit == "pages" else ("LISTING_WITHIN_S", 200.0)))

    async def play() -> None:
        async with a_room(tmp_path / "o.db", per_minute=50 if limit == "pages" else 2) as room:
            gone = await room.order()
            room.grid.says = lambda _, page: answer(
                {"data": [], "next": f"?page={1 if page is None else 1 + int(page.rpartition('=')[2])}"}
            )
            await room.pass_by(INTERVAL + 1)
            assert await room.outcome(gone) == "unknown"
            (said,) = room.logged("listing_too_long")
            assert said["team"] == "team-1" and said["count"] == len(room.grid.asked) == (
                12 if limit == "pages" else 8
            )
            assert room.results() == {"incomplete": 1}

    asyncio.run(play())


@pytest.mark.parametrize("key", [None, LentKey(key_id="another", secret=Secret("team-1"))])
def test_a_key_that_goes_while_pages_are_read_ends_the_look(tmp_path: Path, key: LentKey | None) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db", per_minute=50) as room:
            there = await room.order()
            says = paged([*ROWS, entry("up-x", there)], 3)

            def changes(team: str, page: str | None) -> Evidence:
                if key is None:
                    del room.keys[1]
                else:
                    room.keys[1] = key
                said: Evidence = says(team, page)
                return said

            room.grid.says = changes
            await room.pass_by(INTERVAL)
            assert len(room.grid.asked) == 1
            assert room.results() == {"no_key" if key is None else "failed": 1}

    asyncio.run(play())


def test_a_long_page_of_one_team_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    read_by: set[str] = set()

    def hangs(body: bytes, link: str | None) -> Page | None:
        read_by.add(threading.current_thread().name.partition("_")[0])
        if b"hang" in body:
            goes_on.wait()
        return read_page(body, link)

    monkeypatch.setattr(looking, "read_page", hangs)

    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            mine, theirs = await room.order(team_id=1), await room.order(team_id=2)
            room.lists(entry("hang", mine))
            room.lists(entry("up-2", theirs), team="team-2")
            try:
                async with asyncio.TaskGroup() as looks:
                    while await room.outcome(theirs) == "unknown":
                        await room.reconciler._start_looking(looks)
                        room.clock.now += 1
                        await asyncio.sleep(0.01)
                    assert await room.outcome(mine) == "unknown"
                    goes_on.set()
            finally:
                goes_on.set()
            assert await room.outcome(mine) == "placed"
            assert read_by == {"listing-reader"}, "none of the threads that everything else shares"

    asyncio.run(play())


def test_few_pages_are_on_their_way_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "PAGES_AT_ONCE", 1)
    under_way: list[str] = []

    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            orders = [await room.order(team_id=team_id) for team_id in (1, 2)]

            async def says(team: str, _: str | None) -> Evidence:
                under_way.append(team)
                assert len(under_way) == 1
                await asyncio.sleep(0.01)
                under_way.remove(team)
                return answer([entry(f"of-{team}", orders[int(team[-1]) - 1])])

            room.grid.says = says
            await room.pass_by(INTERVAL + 1)
            assert [await room.outcome(order_id) for order_id in orders] == ["placed"] * 2

    asyncio.run(play())


@pytest.mark.parametrize("case", ["a page fails", "a page is its own next"])
def test_a_listing_that_is_not_read_to_its_end_shows_what_it_shows(tmp_path: Path, case: str) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db", per_minute=50) as room:
            there, gone = await room.order(), await room.order()
            rows = [entry("up-x", there), *ROWS]
            fails_at, odd = (
                (4 if "fails" in case else None),
                ("/reseller/orders?start=2" if "own" in case else None),
            )
            room.grid.says = paged(rows, 2, fails_at=fails_at, odd=odd)
            await room.pass_by(600)
            assert (await room.outcome(there), await room.outcome(gone)) == ("placed", "unknown")
            if "own" in case:
                assert [page for _, _, page in room.grid.asked[:4]] == [None, "/reseller/orders?start=2"] * 2
            assert set(room.results()) == {"found", "failed" if "fails" in case else "incomplete"}

    asyncio.run(play())


# -- one pass, for a command


def test_one_pass_looks_at_everything_once_and_says_what_came_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "CHUNK", 1)

    async def play() -> None:
        async with (
            a_room(tmp_path / "o.db") as room,
            a_room(tmp_path / "o.db", clock=room.clock, grid=room.grid) as by,
        ):
            assert room.ledger.leads()
            twice, gone, late = await room.order(), await room.order(), await absent_at_once(room)
            room.lists(entry("up-1", twice), entry("up-2", twice), entry("up-3", late))
            room.grid.says = lambda team, _: (
                answer([], status=500) if team == "team-2" else answer(room.grid.rows.get(team, []))
            )
            came_to = await by.reconciler.once()
            assert structs.asdict(came_to) == {
                "found": 1, "absent": 0, "late": 1, "duplicates": 1,
                "looks": 2, "failed": 1, "unknown_before": 2, "unknown_after": 1, "seconds": 0.0,
            }  # fmt: skip
            assert await room.outcome(gone) == "unknown"
            assert len(by.grid.asked) == 2

    asyncio.run(play())


def test_an_order_that_somebody_else_settled_meanwhile_is_left_as_it_is(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            order_id = await room.order()

            def says(*_: object) -> Evidence:
                alter(room.path, "UPDATE orders SET outcome = 'not_placed', version = version + 1")
                return answer([entry("up-1", order_id)])

            room.grid.says = says
            await room.pass_by(INTERVAL + 1)
            assert await room.outcome(order_id) == "not_placed"
            assert not room.logged("reconciled") and room.results() == {"incomplete": 1}

    asyncio.run(play())


def test_a_proof_that_comes_too_late_settles_nothing(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_room(tmp_path / "o.db") as room:
            order_id = await room.order()
            await room.pass_by(SETTLE + 1)

            def says(*_: object) -> Evidence:
                alter(room.path, "UPDATE orders SET outcome = 'rejected', version = version + 1")
                return answer([])

            room.grid.says = says
            await room.pass_by(2 * INTERVAL)
            assert await room.outcome(order_id) == "rejected"
            assert "absent" not in room.results() and not room.logged("ledger")

    asyncio.run(play())
