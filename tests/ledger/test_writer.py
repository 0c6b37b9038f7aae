"""Group commit: fewer commits than writes, and neighbours that do not hurt each other."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec import structs

from gateway.errors import LedgerError, LedgerOverloaded, LedgerUndecided, UpstreamOrderTaken
from gateway.ledger import sqlite_writer
from gateway.ledger.interface import Claimed, OrderFilter
from gateway.ledger.sqlite import SqliteLedger
from tests.ledger.ledger_tools import CLOCK, ENDED, START, VAULT, Commits, a_ledger, claimed, end, new_order


class Held:
    """Holds a ledger's writer at work, so that what comes meanwhile gathers into one group."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self._go = threading.Event()
        self._at_work = threading.Event()
        self._ledger = ledger
        self._job: asyncio.Future[Any] | None = None

    async def __aenter__(self) -> None:
        def wait(_connection: apsw.Connection) -> None:
            self._at_work.set()
            self._go.wait()

        self._job = asyncio.ensure_future(self._ledger._writer.run(wait))
        await asyncio.to_thread(self._at_work.wait)

    async def __aexit__(self, *_: object) -> None:
        for _step in range(10):  # lets the tasks that were made reach the writer's queue
            await asyncio.sleep(0)
        self._go.set()
        assert self._job is not None
        await self._job


def test_what_waits_together_is_committed_together(tmp_path: Path) -> None:
    commits = Commits()

    async def play() -> None:
        async with a_ledger(tmp_path / "o.db", commits) as ledger:
            async with Held(ledger):
                writes = [asyncio.ensure_future(claimed(ledger)) for _ in range(100)]
            await asyncio.gather(*writes)
            assert commits == [None, None], "one for what held the writer, one for all the rest"
            assert len(await ledger.page(OrderFilter(limit=200))) == 100

    asyncio.run(play())


def test_no_group_is_longer_than_its_bound(tmp_path: Path) -> None:
    commits = Commits()

    async def play() -> None:
        async with a_ledger(tmp_path / "o.db", commits) as ledger:
            async with Held(ledger):
                # Not claims: they would not wait for as long as a busy machine may take.
                run = ledger._writer.run
                writes = [
                    asyncio.ensure_future(run(lambda connection: connection.changes()))
                    for _ in range(2 * sqlite_writer.MAX_GROUP + 1)
                ]
            await asyncio.gather(*writes)
            assert len(commits) == 1 + 3

    asyncio.run(play())


def test_a_job_that_raises_undoes_itself_and_not_its_neighbours(tmp_path: Path) -> None:
    commits = Commits()

    def half(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO meta (name, value) VALUES ('half', 1)")
        raise ValueError("half-way")

    def refused(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO meta (name, value) VALUES ('half', 1)")
        connection.execute("INSERT INTO meta (name, value) VALUES ('directory_version', 1)")

    async def play() -> None:
        async with a_ledger(tmp_path / "o.db", commits) as ledger:
            async with Held(ledger):
                before = asyncio.ensure_future(claimed(ledger))
                jobs = [asyncio.ensure_future(ledger._writer.run(job)) for job in (half, refused)]
                twice = new_order(None)
                orders = (twice, structs.replace(twice, fingerprint=b"other"))  # one id, two orders
                same = [asyncio.ensure_future(ledger.claim(order, START)) for order in orders]
                after = asyncio.ensure_future(claimed(ledger))
            with pytest.raises(ValueError, match="half-way"):
                await jobs[0]
            for job in (jobs[1], same[1]):
                with pytest.raises(LedgerError, match="Constraint"):
                    await job
            assert isinstance(await same[0], Claimed)
            await before
            await after
            assert commits == [None, None] and not ledger.broken.is_set()
            assert len(await ledger.page(OrderFilter())) == 3
            count = "SELECT count(*) FROM meta WHERE name = 'half'"
            assert await ledger._writer.run(lambda connection: connection.execute(count).get) == 0

    asyncio.run(play())


def test_an_upstream_order_belongs_to_one_order_of_the_team(tmp_path: Path) -> None:
    commits = Commits()

    async def play() -> None:
        async with a_ledger(tmp_path / "o.db", commits) as ledger:
            orders = [await claimed(ledger, new_order(None)) for _ in range(3)]
            stranger = await claimed(ledger, new_order(None, team_id=2))
            commits.clear()
            async with Held(ledger):
                settling = [
                    asyncio.ensure_future(ledger.settle(order, ENDED, end("placed", upstream)))
                    for order, upstream in zip([*orders, stranger], ["up", "up", "other", "up"], strict=True)
                ]
            found = await asyncio.gather(*settling, return_exceptions=True)
            assert [type(fault) for fault in found] == [type(None), UpstreamOrderTaken, type(None), type(None)]
            assert commits == [None, None]
            stored = [await ledger.find(order.order_id, tenant_id=None) for order in orders]
            assert [order.outcome for order in stored if order] == ["placed", "in_flight", "placed"]
            await ledger.settle(orders[1], ENDED, end("unknown"))

    asyncio.run(play())


def test_a_write_stands_although_nobody_waits_for_it_any_more(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            async with Held(ledger):
                writing = asyncio.ensure_future(claimed(ledger))
                await asyncio.sleep(0)
                writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            await ledger.beat()
            assert len(await ledger.page(OrderFilter())) == 1

    asyncio.run(play())


def test_closing_waits_for_accepted_writes_and_takes_no_more(tmp_path: Path) -> None:
    async def play() -> None:
        path = tmp_path / "o.db"
        ledger = SqliteLedger(path, VAULT, CLOCK, Commits().seen)
        async with Held(ledger):
            writing = [asyncio.ensure_future(claimed(ledger)) for _ in range(5)]
            await asyncio.sleep(0)
            closing = asyncio.ensure_future(ledger.close())
        await closing
        assert len({order.order_id for order in await asyncio.gather(*writing)}) == 5
        with pytest.raises(LedgerError, match="closed"):
            await ledger.beat()
        async with a_ledger(path) as again:
            assert len(await again.page(OrderFilter())) == 5

    asyncio.run(play())


def test_too_many_waiting_writes_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_writer, "MAX_WAITING", 5)

    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            async with Held(ledger):
                writes = [asyncio.ensure_future(claimed(ledger)) for _ in range(10)]
            found = await asyncio.gather(*writes, return_exceptions=True)
            assert [isinstance(claim, LedgerOverloaded) for claim in found] == [False] * 4 + [True] * 6
            await claimed(ledger)

    asyncio.run(play())


def test_a_write_that_nobody_has_begun_in_time_is_taken_back(tmp_path: Path) -> None:
    commits = Commits()

    async def play() -> None:
        async with a_ledger(tmp_path / "o.db", commits) as ledger:
            waits = Held(ledger)
            async with waits:
                late = asyncio.ensure_future(ledger._writer.run(add("late"), within_s=0.01))
                patient = asyncio.ensure_future(ledger._writer.run(add("patient"), within_s=60))
                with pytest.raises(LedgerOverloaded):
                    await late
            await patient
            assert ledger._writer._waiting == 0
            names = "SELECT name FROM meta WHERE name IN ('late', 'patient')"
            assert await ledger._writer.run(lambda connection: connection.execute(names).get) == "patient"

    def add(name: str) -> Callable[[apsw.Connection], None]:
        def write(connection: apsw.Connection) -> None:
            connection.execute("INSERT INTO meta (name, value) VALUES (?, 1)", (name,))

        return write

    asyncio.run(play())


def test_what_is_taken_back_leaves_nothing_behind_while_the_disk_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "MAX_WAITING", 20)

    def work(_connection: apsw.Connection) -> None:
        return None

    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            writer = ledger._writer
            async with Held(ledger):
                patient = asyncio.ensure_future(writer.run(work))
                for _ in range(5):
                    late = (writer.run(work, within_s=0.001) for _ in range(18))
                    found = await asyncio.gather(*late, return_exceptions=True)
                    assert {type(fault) for fault in found} == {LedgerOverloaded}
                    assert (len(writer._jobs), writer._waiting) == (1, 2), (
                        "the patient one, and what holds the writer"
                    )
            await patient
            assert (len(writer._jobs), writer._waiting) == (0, 0)

    asyncio.run(play())


def test_a_write_that_was_begun_is_waited_for(tmp_path: Path) -> None:
    begun = threading.Event()

    def slow(connection: apsw.Connection) -> int:
        begun.set()
        threading.Event().wait(1.2)
        return 7

    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            assert await ledger._writer.run(slow, within_s=1) == 7
            assert begun.is_set()

    asyncio.run(play())


class Fails:
    """The system's clock until `now`; then there is no memory to read it with, in the writer's thread."""

    def __init__(self) -> None:
        self.now = False

    def wall_ms(self) -> int:
        return CLOCK.wall_ms()

    def monotonic(self) -> float:
        if self.now and threading.current_thread().name == "ledger-writer":
            raise MemoryError
        return CLOCK.monotonic()

    def random_bytes(self, count: int) -> bytes:
        return CLOCK.random_bytes(count)


def test_a_writer_that_dies_leaves_nobody_waiting(tmp_path: Path) -> None:
    async def play() -> None:
        connection = apsw.Connection(str(tmp_path / "o.db"))
        clock = Fails()
        writer = sqlite_writer.Writer(connection, clock=clock, on_commit=lambda _seconds, _fault: None)
        assert await writer.run(lambda _: 1) == 1
        clock.now = True
        with pytest.raises(LedgerUndecided):
            async with asyncio.timeout(30):
                await writer.run(lambda _: 2)
        assert writer.broken.is_set()
        with pytest.raises(LedgerError):
            await writer.run(lambda _: 3)

    asyncio.run(play())


def test_a_failure_to_tell_of_a_commit_leaves_nobody_waiting(tmp_path: Path) -> None:
    def tell(_seconds: float, _fault: LedgerError | None) -> None:
        raise MemoryError

    async def play() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        connection = apsw.Connection(str(tmp_path / "o.db"))
        writer = sqlite_writer.Writer(connection, clock=CLOCK, on_commit=tell)
        async with asyncio.timeout(30):
            assert await writer.run(lambda _: 1) == 1
            await writer.broken.wait()

    asyncio.run(play())
