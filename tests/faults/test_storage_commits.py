"""Disks that fail or are full while orders are written: what is told is true, and nothing is sent twice or lost."""

import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from tests.accept.world import wait_until
from tests.faults.matrix import row
from tests.faults.storage_tools import PATIENTLY, SOAK, Shop, a_shop, problem
from tests.support.disk import EIO_SYNC, FULL, Rule, once, onward
from tests.support.looked_at import LOOKED_AT
from tests.support.needs import needs

pytestmark = PATIENTLY

NOT_WRITTEN: Final = (503, "ledger-unavailable", "not_placed", True)
ENDING: Final = (503, "draining", "not_placed", True)
NOT_SURE: Final = (502, "outcome-unknown", "unknown", True)
MOST_SYNCS: Final = 40
MOST_ORDERS: Final = 500
"""Well over what fills the log up to a checkpoint."""

BROKEN_STATUS: Final = 5


def _truly(shop: Shop, mark: str) -> str:
    """Sends the order of that mark, whose answer must be true whatever the disk does; what was said."""
    try:
        answer = shop.order(mark)
    except (httpx.TransportError, StopIteration):  # the process has ended
        return "nothing"
    if answer.status_code == 201:
        return "placed"
    said = problem(answer)
    assert said in (NOT_WRITTEN, ENDING, NOT_SURE), answer.text
    if said != NOT_SURE:
        assert mark not in shop.taken(), "what is told to be not placed was not sent"
    return said[2]


@row(
    45,
    fault="the N-th sync fails with EIO, for every N of a run of claiming, settling and reconciling",
    answer="503 `ledger-unavailable`, `not_placed`, where it was the claim; 502 `outcome-unknown`, `unknown`, "
    "where it was the end",
    holds="the process ends with 5; started again, it knows every order that was sent, and places none twice",
)
def test_row_45_each_sync_of_a_run_fails_once() -> None:
    said: set[str] = set()
    with a_shop() as shop:
        for number in range(1, MOST_SYNCS):
            shop.disk.arm(once(number, "sync", EIO_SYNC, "-wal"))
            shop.sandbox.set_fault("place_then_reset", count=1)
            marks = [f"{number}-{which}" for which in ("unknown", "placed")]
            said |= {_truly(shop, mark) for mark in marks}
            shop.sandbox.clear_faults()
            _until_settled_or_ended(shop)
            if not shop.disk_failed():
                shop.disk.arm()  # what is written now and then, and at the end, is no part of the run
                break
            assert shop.stack.process.wait() == BROKEN_STATUS
            shop.stack.start()
            for mark in marks:
                wait_until(partial(_placed_or_never_sent, shop, mark), f"the truth of {mark}")
            shop.promise_holds()
        shop.promise_holds()
    assert number > 4, "claim, claim, end, end, found, of which two may share a commit: each was hit"
    assert {"unknown", "placed"} <= said


def _until_settled_or_ended(shop: Shop) -> None:
    """Reconciling writes too: the run is not over before it has."""
    wait_until(
        lambda: shop.stack.process.ended or shop.nothing_unsettled(), "every order settled, or the process ended"
    )


def _placed_or_never_sent(shop: Shop, mark: str) -> bool:
    answer = shop.order(mark)
    if answer.status_code == 201:
        return True
    return problem(answer) == NOT_SURE and mark not in shop.taken()


@row(
    45,
    part="at checkpoints",
    fault="every sync of the database itself fails",
    answer="201",
    holds="the log is kept, and nothing is lost by a kill",
)
@needs("strace")
def test_row_45_a_checkpoint_that_fails_loses_nothing() -> None:
    # Without the disk in between: what SQLite passes over there, Python would not.
    with a_shop(program=LOOKED_AT) as shop:
        placed = 0
        with _refusing(shop, "fdatasync", "EIO", shop.ledger) as refused:
            while "INJECTED" not in refused.read_text():
                assert placed < MOST_ORDERS, "no checkpoint"
                assert shop.order(f"m{placed}").status_code == 201
                placed += 1
            assert shop.order("after").status_code == 201
            shop.stack.process.kill()
        shop.stack.start()
        for mark in ("m0", f"m{placed - 1}", "after"):
            assert shop.order(mark).headers["idempotent-replayed"] == "true"
        shop.promise_holds()


@row(
    46,
    fault="from the N-th write on the disk is full, for every N",
    answer="before sending 503 `ledger-unavailable`, `not_placed`; after it 502 `outcome-unknown`, `unknown`",
    holds="as soon as there is room the same orders are placed, in the same process",
)
def test_row_46_the_disk_is_full_from_each_write_on() -> None:
    said: list[str] = []
    with a_shop() as shop:
        shop.disk.arm(Rule(what="write", file="-wal"))
        assert shop.order("first").status_code == 201
        writes = shop.disk.told().matched[0]
        for number in range(1, writes + 1, 1 if SOAK else 5):
            shop.disk.arm(onward(number, "write", FULL, "-wal"))
            said.append(_truly(shop, f"m{number}"))
            shop.disk.arm()
            shop.place(f"m{number}")
        shop.settled()
        shop.promise_holds()
    assert {"not_placed", "unknown"} <= set(said)
    assert "nothing" not in said, "the process stays"


@contextmanager
def _full(shop: Shop) -> Iterator[None]:
    shop.disk.arm(onward(1, "write", FULL))
    yield
    shop.disk.arm()


@contextmanager
def _file_size_limit(shop: Shop) -> Iterator[None]:
    """No file of the process may grow any more."""
    size = shop.ledger.with_name(shop.ledger.name + "-wal").stat().st_size
    before = resource.prlimit(shop.stack.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    yield
    resource.prlimit(shop.stack.process.pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def _refusing(shop: Shop, call: str, error: str, *files: Path) -> Iterator[Path]:
    """The kernel answers that system call of the process with that error, on these files only where there are any.

    Gives the file in which strace says what it did.
    """
    said = shop.stack.folder / f"strace-{call}-{error}"
    only = [part for file in files for part in ("-P", str(file))]
    what = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}", *only]
    command = ["strace", "-f", "-o", str(said), *what, "-p", str(shop.stack.process.pid)]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert strace.stderr is not None
    try:
        assert any("attached" in line for line in strace.stderr), "strace may not look at processes here"
        yield said
    finally:
        strace.terminate()
        strace.communicate()


def _no_room(shop: Shop, without: Callable[[Shop], AbstractContextManager[object]], *, readiness: bool) -> None:
    """One order is under way when the room ends, one comes then; both are told the truth, and both get placed."""
    before = shop.stack.process.pid
    shop.place("before")
    shop.sandbox.set_fault("slow", after_s=1, count=1, match={"method": "POST"})
    with ThreadPoolExecutor(1) as tenant:
        under_way = tenant.submit(shop.order, "under-way")
        wait_until(lambda: "under-way" in [call_mark(shop), *shop.taken()], "the order to arrive")
        with without(shop):
            assert problem(shop.order("new")) == NOT_WRITTEN
            assert shop.taken().count("new") == 0
            assert problem(under_way.result()) == NOT_SURE
            if readiness:
                wait_until(lambda: shop.get("/readyz").status_code == 503, "not ready")
                assert "write" in shop.get("/readyz").text
            assert shop.get("/healthz").status_code == 200
            assert shop.order("before").headers["idempotent-replayed"] == "true", "what is known is answered"
    wait_until(lambda: shop.get("/readyz").status_code == 200, "ready again")
    wait_until(lambda: shop.outcome("under-way") == "placed", "its end written by itself")
    assert shop.order("under-way").headers["idempotent-replayed"] == "true"
    shop.place("new")
    shop.settled()
    shop.promise_holds()
    assert shop.stack.process.pid == before
    assert not shop.stack.process.ended


def call_mark(shop: Shop) -> str:
    """The notes of the last order that arrived, whether or not it was taken by now."""
    found = [call for call in shop.sandbox.calls if call.method == "POST" and call.complete]
    match = re.search(rb'"notes":\s*"([^"]*)"', found[-1].body)
    return match[1].decode() if match else ""


@row(
    46,
    part="while an order is under way, and healed",
    holds="`/readyz` is 503 meanwhile; nobody has to do anything",
)
def test_row_46_a_full_disk_heals_by_itself() -> None:
    with a_shop() as shop:
        _no_room(shop, _full, readiness=True)


@row(46, part="the kernel says ENOSPC to every write")
@needs("strace")
def test_row_46_the_kernel_has_no_space() -> None:
    with a_shop() as shop:
        _no_room(shop, lambda shop: _refusing(shop, "pwrite64", "ENOSPC"), readiness=False)


@row(
    47,
    fault="a limit on the size of files (`RLIMIT_FSIZE`) is reached",
    answer="as on a full disk",
    holds="no signal ends the process; raised, the limit is forgotten",
)
def test_row_47_a_limit_on_the_files_size_is_a_full_disk() -> None:
    with a_shop() as shop:
        _no_room(shop, _file_size_limit, readiness=True)


@row(47, part="the kernel says EDQUOT to every write")
@needs("strace")
def test_row_47_a_quota_is_a_full_disk() -> None:
    with a_shop() as shop:
        _no_room(shop, lambda shop: _refusing(shop, "pwrite64", "EDQUOT"), readiness=False)


@row(
    47, part="the kernel says EIO to every write", answer="503 or 502 as in row 45", holds="the process ends with 5"
)
@needs("strace")
def test_row_47_but_a_broken_disk_is_not_a_full_one() -> None:
    with a_shop() as shop:
        shop.place("before")
        with _refusing(shop, "pwrite64", "EIO"):
            assert _truly(shop, "new") in ("not_placed", "nothing")
            assert shop.stack.process.wait() == BROKEN_STATUS
        shop.stack.start()
        shop.place("new")
        shop.promise_holds()
