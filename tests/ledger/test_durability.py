"""What is acknowledged survives, what rests on disk is sealed, and one process at a time owns the file."""

import asyncio
import operator
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from gateway.broker.administration import Administration, NewTenant
from gateway.broker.vault import Secret
from gateway.clock import SystemClock
from gateway.errors import LedgerBusy, StorageUnreachable
from gateway.ledger.interface import OrderFilter
from gateway.ledger.sqlite_directory import SqliteDirectory
from gateway.ledger.sqlite_engine import connect
from gateway.ledger.sqlite_owner import Owner
from gateway.ledger.sqlite_reader import SqliteReader
from tests.ledger.ledger_tools import (
    ENDED,
    VAULT,
    a_disk,
    a_ledger,
    claimed,
    end,
    new_order,
)
from tests.support.needs import ROOT

WRITES = """
import asyncio, sys
from pathlib import Path
from tests.ledger.ledger_tools import ENDED, a_ledger, claimed, end, new_order

async def play():
    async with a_ledger(Path(sys.argv[1])) as ledger:
        print("owns", flush=True)
        for at in range(10_000):
            order = await claimed(ledger, new_order(f"key-{sys.argv[2]}-{at}"))
            print("in_flight", order.order_id, flush=True)
            await ledger.settle(order, ENDED, end("placed", f"up-{sys.argv[2]}-{at}", response=b"x" * 3000))
            print("placed", order.order_id, flush=True)

asyncio.run(play())
"""


@contextmanager
def child(path: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """A process that owns the ledger and writes into it, saying each write when it is acknowledged."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(path), name],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_what_was_acknowledged_is_there_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    said: dict[str, str] = {}
    for life in range(10):
        with child(path, str(life)) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "owns\n"
            for _line in range(3 + 7 * life):
                outcome, order_id = process.stdout.readline().split()
                said[order_id] = outcome
            process.send_signal(signal.SIGKILL)
            for line in process.stdout:  # what it said before it knew
                outcome, order_id = line.split()
                said[order_id] = outcome
    reader = SqliteReader(path, VAULT)
    stored = {order.order_id: order for order in reader.page(OrderFilter(limit=100_000))}
    for order_id, outcome in said.items():
        assert stored[order_id].outcome == "placed" or outcome == "in_flight"
        assert stored[order_id].response == (b"x" * 3000 if stored[order_id].outcome == "placed" else None)
    reader.close()

    async def recovers() -> None:
        async with a_ledger(path) as ledger:
            left = sum(order.outcome == "in_flight" for order in stored.values())
            assert await ledger.recover(tuple) == (left, 0)
            assert await ledger.unsettled() == {"queued": 0, "in_flight": 0, "unknown": left}
            assert await ledger.recover(tuple) == (0, 0)

    asyncio.run(recovers())


def test_every_acknowledged_write_was_synced_first(tmp_path: Path) -> None:
    async def play() -> None:
        with a_disk() as disk:
            async with a_ledger(tmp_path / "o.db") as ledger:
                for _order in range(5):
                    disk.done.clear()
                    order = await claimed(ledger)
                    assert ("write", "-wal") in disk.done and disk.done[-1] == ("sync", "-wal")
                    disk.done.clear()
                    await ledger.settle(order, ENDED, end("placed"))
                    assert ("write", "-wal") in disk.done and disk.done[-1] == ("sync", "-wal")

    asyncio.run(play())


def test_the_writers_connection_is_wal_and_full(tmp_path: Path) -> None:
    async def play() -> None:
        async with a_ledger(tmp_path / "o.db") as ledger:
            for name, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
                found = await ledger._writer.run(operator.methodcaller("pragma", name))
                assert found == value, name

    asyncio.run(play())


def test_a_ledger_that_cannot_be_opened_is_not_owned(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    path.write_bytes(b"no database" * 500)

    async def opens() -> None:
        async with a_ledger(path):
            pass

    for _again in range(2):
        with pytest.raises(StorageUnreachable, match=str(path)):
            asyncio.run(opens())
    owner = Owner(path)
    assert owner.nobody_lives()
    owner.release()


CANARIES = {
    "idempotency key": "canary-idempotency-9f1c",
    "response": "canary-response-9f1c",
    "answer": "canary-answer-9f1c",
    "upstream key": "canary-upstream-key-9f1c",
}


def _contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_nothing_of_an_orders_content_rests_in_the_clear(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    administration = Administration(SqliteDirectory(connect(path)), VAULT, SystemClock(), who="ops")
    administration.add_team("team")
    administration.add_key("team", Secret(CANARIES["upstream key"]))
    administration.add_tenant(NewTenant(name="shop", team="team"))
    issued = administration.issue_token("shop")

    async def play() -> None:
        async with a_ledger(path) as ledger:
            for at in range(3):
                order = await claimed(ledger, new_order(f"{CANARIES['idempotency key']}-{at}"))
                settlement = end(
                    "placed",
                    response=f'{{"x":"{CANARIES["response"]}"}}'.encode(),
                    answer=CANARIES["answer"].encode(),
                )
                await ledger.settle(order, ENDED, settlement)
            files = _contents(tmp_path)
            assert {"o.db", "o.db-wal", "o.db-shm"} <= files.keys()
            assert any(b"in_flight" in content or b"placed" in content for content in files.values())
            for what, canary in {**CANARIES, "token": issued.token.secret}.items():
                for name, content in files.items():
                    assert canary.encode() not in content, f"{what} in {name}"
                    assert canary.encode("utf-16-le") not in content, f"{what} in {name}"

    asyncio.run(play())


def test_files_are_ones_own_whatever_the_umask_says(tmp_path: Path) -> None:
    """In a process of its own: the umask is the whole process's."""
    path = tmp_path / "a" / "b" / "o.db"
    script = """
import asyncio, os, sys
from pathlib import Path
os.umask(0)
from tests.ledger.ledger_tools import a_ledger, claimed
path = Path(sys.argv[1])
from gateway.ledger.sqlite_engine import connect
connect(path).close()
async def play():
    async with a_ledger(path) as ledger:
        await claimed(ledger)
        for place in (path.parent.parent, path.parent, *path.parent.iterdir()):
            print(place.name, oct(place.stat().st_mode & 0o777))
asyncio.run(play())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    modes = dict(line.split() for line in done.stdout.splitlines())
    files = dict.fromkeys(("o.db", "o.db-wal", "o.db-shm", "o.db.owner"), "0o600")
    assert modes == {"a": "0o700", "b": "0o700", **files}


def test_another_processs_lock_makes_it_busy_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "o.db"

    async def play() -> None:
        async with a_ledger(path) as ledger:
            other = apsw.Connection(str(path))
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LedgerBusy):
                await claimed(ledger, new_order("k"))
            assert not ledger.broken.is_set()
            other.execute("ROLLBACK")
            await claimed(ledger, new_order("k"))
            other.close()

    asyncio.run(play())


def test_recovered_orders_say_what_is_known_of_them(tmp_path: Path) -> None:
    path = tmp_path / "o.db"

    async def dies() -> str:
        async with a_ledger(path) as ledger:
            return (await claimed(ledger)).order_id

    order_id = asyncio.run(dies())

    async def recovers() -> None:
        async with a_ledger(path) as ledger:
            assert await ledger.recover(tuple) == (1, 0)
            stored = await ledger.find(order_id, tenant_id=1)
            assert stored is not None
            assert (stored.outcome, stored.cause, stored.http_status, stored.settled_ms) == (
                "unknown", "broken", 502, None,
            )  # fmt: skip
            (attempt,) = stored.attempts
            assert (attempt.ended_ms, attempt.evidence) == (None, None), "nobody saw how it ended"

    asyncio.run(recovers())
