"""A disk that is full, or fails: what is said of a write is true, and nothing is half done."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from gateway.errors import LedgerClosed, LedgerError, LedgerUndecided
from gateway.ledger import sqlite_writer
from gateway.ledger.interface import Claimed, Known, OrderFilter
from tests.ledger.ledger_tools import ENDED, START, Disk, a_disk, a_ledger, claimed, dump, end, new_order
from tests.support.needs import ROOT

FULL = apsw.SQLITE_FULL
EIO = apsw.SQLITE_IOERR_FSYNC


def _writes_of(path: Path, what: str) -> int:
    """How many writes (or syncs) of the log one claim and one settling take."""

    async def play() -> int:
        with a_disk() as disk:
            async with a_ledger(path) as ledger:
                disk.arm(lambda *_: 0)
                await ledger.settle(await claimed(ledger), ENDED, end("placed", response=b"x" * 5000))
                return disk.counted(what)

    return asyncio.run(play())


def _fails_at(disk: Disk, what: str, number: int, code: int, *, and_after: bool) -> None:
    def refuses(done: str, file: str, at: int) -> int:
        hit = at >= number if and_after else at == number
        return code if (done, file) == (what, "-wal") and hit else 0

    disk.arm(refuses)


@pytest.mark.parametrize("and_after", [False, True], ids=["once", "from then on"])
def test_a_full_disk_at_each_write_writes_nothing_and_heals(tmp_path: Path, and_after: bool) -> None:
    writes = _writes_of(tmp_path / "count.db", "write")
    assert writes > 8

    async def play(number: int) -> int:
        path = tmp_path / f"{number}-{and_after}.db"
        with a_disk() as disk:
            async with a_ledger(path) as ledger:
                kept = await claimed(ledger, new_order("kept"))
                failed = 0
                _fails_at(disk, "write", number, FULL, and_after=and_after)
                rows = dump(path)
                order = new_order("k")
                try:
                    claim = await ledger.claim(order, START)
                    rows = dump(path)
                    assert isinstance(claim, Claimed)
                    await ledger.settle(claim, ENDED, end("placed", response=b"x" * 5000))
                except LedgerError as fault:
                    assert not isinstance(fault, LedgerUndecided)
                    failed = 1
                    assert dump(path) == rows, "certainly nothing was written"
                assert not ledger.broken.is_set()
                disk.arm(None)
                again = await ledger.claim(order, START)
                assert isinstance(again, Claimed | Known)
                assert again.order_id if isinstance(again, Claimed) else again.order.order_id == order.order_id
                await ledger.settle(kept, ENDED, end("placed"))
                assert len(await ledger.page(OrderFilter())) == 2
        async with a_ledger(path) as ledger:
            stored = await ledger.find(kept.order_id, tenant_id=1)
            assert stored is not None and stored.outcome == "placed"
        return failed

    failed = sum(asyncio.run(play(number)) for number in range(1, writes + 1))
    assert failed == writes, "each of the writes is one that matters"


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("code", [EIO, apsw.SQLITE_IOERR_WRITE], ids=["sync", "write"])
def test_a_failed_commit_is_undecided_and_ends_the_ledger(tmp_path: Path, number: int, code: int) -> None:
    path = tmp_path / "o.db"
    what = "sync" if code == EIO else "write"

    async def play() -> None:
        with a_disk() as disk:
            async with a_ledger(path) as ledger:
                kept = await claimed(ledger, new_order("kept"))
                await ledger.settle(kept, ENDED, end("placed"))
                _fails_at(disk, what, number if what == "sync" else 1, code, and_after=False)
                with pytest.raises(LedgerUndecided):
                    for at in range(number):
                        await claimed(ledger, new_order(f"k{at}"))
                assert ledger.broken.is_set() and not ledger.owns()
                disk.arm(None)
                for later in (claimed(ledger), ledger.settle(kept, ENDED, end("placed")), ledger.beat()):
                    with pytest.raises(LedgerError):
                        await later
                stored = await ledger.find(kept.order_id, tenant_id=1)
                assert stored is not None and stored.outcome == "placed", "looking goes on"
        async with a_ledger(path) as ledger:
            left, _queued = await ledger.recover(tuple)
            assert left in (number - 1, number) or what == "write"
            stored = await ledger.find(kept.order_id, tenant_id=1)
            assert stored is not None and stored.outcome == "placed"
            await claimed(ledger, new_order("new"))

    asyncio.run(play())


def test_writes_behind_a_broken_group_are_refused_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / "o.db"

    async def play() -> None:
        with a_disk() as disk:
            async with a_ledger(path) as ledger:
                _fails_at(disk, "sync", 1, EIO, and_after=True)
                found = await asyncio.gather(
                    *(claimed(ledger, new_order(f"k{at}")) for at in range(300)), return_exceptions=True
                )
                assert all(isinstance(fault, LedgerError) for fault in found)
                assert sum(not isinstance(fault, LedgerUndecided) for fault in found) >= 300 - 2 * 128
                disk.arm(None)

    asyncio.run(play())


def test_a_writer_that_was_not_sure_of_a_commit_makes_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the disk is well again at once, and before anybody has heard of the fault."""
    monkeypatch.setattr(sqlite_writer, "MAX_GROUP", 1)
    path = tmp_path / "o.db"

    async def play() -> None:
        with a_disk() as disk:
            async with a_ledger(path) as ledger:
                _fails_at(disk, "sync", 1, EIO, and_after=False)
                claims = [asyncio.ensure_future(claimed(ledger, new_order(f"k{at}"))) for at in range(3)]
                for _step in range(5):  # the claims reach the writer's queue
                    await asyncio.sleep(0)
                # Meanwhile the event loop hears nothing; a writer that goes on has all the time that it needs.
                ledger._writer._thread.join(5)
                assert not ledger._writer._thread.is_alive()
                first, *others = await asyncio.gather(*claims, return_exceptions=True)
                assert isinstance(first, LedgerUndecided)
                assert [type(fault) for fault in others] == [LedgerClosed, LedgerClosed]

    asyncio.run(play())


LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from gateway.errors import LedgerError
from tests.ledger.ledger_tools import ENDED, a_ledger, claimed, end, new_order

async def play():
    path = Path(sys.argv[1])
    async with a_ledger(path) as ledger:
        await claimed(ledger, new_order("first"))
        size = (path.parent / (path.name + "-wal")).stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 3000, resource.RLIM_INFINITY))
        for at in range(100):
            try:
                order = await claimed(ledger, new_order(f"k{at}"))
                await ledger.settle(order, ENDED, end("placed", response=b"x" * 9000))
                print("placed", order.order_id, flush=True)
            except LedgerError as fault:
                print("refused", type(fault).__name__, flush=True)
                break
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

asyncio.run(play())
"""


def test_a_limit_on_the_files_size_kills_nobody(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *placed, refused = [line.split() for line in done.stdout.splitlines()]
    assert refused[0] == "refused"

    async def reopens() -> None:
        async with a_ledger(path) as ledger:
            for _, order_id in placed:
                stored = await ledger.find(order_id, tenant_id=1)
                assert stored is not None and stored.outcome == "placed"
            assert (await ledger.recover(tuple))[0] >= 1

    asyncio.run(reopens())
