"""A ledger that is locked or slow: who waits is told the truth in time, and the rest of the gateway goes on."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import httpx
import pytest

from tests.accept.world import wait_until
from tests.faults.matrix import row
from tests.faults.storage_tools import PATIENTLY, SOAK, Shop, a_shop, problem
from tests.support.disk import Rule

pytestmark = PATIENTLY

LOCK: Final = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.readline()
"""
HELD_AT_START: Final = ("tests.faults.child_held", "serve")
LOCKED_S: Final = 60 if SOAK else 3
STALL_S: Final = 5
NOT_WRITTEN: Final = (503, "ledger-unavailable", "not_placed", True)
NOT_SURE: Final = (502, "outcome-unknown", "unknown", True)
OVERLOADED: Final = (503, "overloaded", "not_placed", True)
TOO_LATE: Final = (503, "upstream-unavailable", "not_placed", True)


@contextmanager
def _locked(shop: Shop) -> Iterator[None]:
    """By another process, for as long as the block lasts."""
    command = [sys.executable, "-c", LOCK, str(shop.ledger)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        yield
    finally:
        holder.communicate("\n")


class _Health:
    """Asks /healthz all the time; how often it was answered."""

    def __init__(self, url: str) -> None:
        self.answers = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(url,))

    def _ask(self, url: str) -> None:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            while not self._over.wait(0.02):
                assert client.get("/healthz").status_code == 200
                self.answers += 1

    def __enter__(self) -> "_Health":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@row(
    48,
    fault="another process keeps the database locked for 60 s",
    answer="503 `ledger-unavailable`, `not_placed`, within 2 s, or 503 `overloaded`, `not_placed`, for whose write had "
    "not begun; 502 `outcome-unknown`, `unknown`, for an order that is under way",
    holds="health is answered while orders wait; unlocked, everything goes on by itself",
)
def test_row_48_a_locked_database_stops_nobody_but_orders() -> None:
    with a_shop() as shop, ThreadPoolExecutor(9) as tenants:
        shop.place("before")
        shop.sandbox.set_fault("slow", after_s=1, count=1, match={"method": "POST"})
        under_way = tenants.submit(shop.order, "under-way")
        wait_until(lambda: len(shop.sandbox.orders) == 2, "the order to arrive")
        with _locked(shop), _Health(shop.stack.tenant_url) as health:
            began = time.monotonic()
            round_, said = 0, set()
            while round_ < 2 or time.monotonic() < began + LOCKED_S:
                before = health.answers
                waiting = [tenants.submit(shop.order, f"{round_}-{at}") for at in range(8)]
                said |= {problem(order.result()) for order in waiting}
                assert health.answers > before, "it was answered while they waited"
                round_ += 1
            assert problem(under_way.result()) == NOT_SURE
        assert NOT_WRITTEN in said and said <= {NOT_WRITTEN, OVERLOADED}
        assert len(shop.sandbox.orders) == 2, "nothing was sent"
        wait_until(lambda: shop.outcome("under-way") == "placed", "its end written by itself")
        wait_until(lambda: shop.get("/readyz").status_code == 200, "ready again")
        shop.place("0-0")
        shop.settled()
        shop.promise_holds()


@row(
    48,
    part="for 3 s, just when this one starts",
    answer="none before it is ready",
    holds="it starts once the ledger is free, and settles what a killed process left",
)
def test_row_48_a_process_starts_beside_one_that_holds_the_ledger() -> None:
    with a_shop(program=HELD_AT_START) as shop, ThreadPoolExecutor(1) as tenants:
        shop.place("before")
        shop.sandbox.set_fault("slow", after_s=60, count=1, match={"method": "POST"})
        under_way = tenants.submit(shop.order, "under-way")
        wait_until(lambda: len(shop.sandbox.orders) == 2, "the order to arrive")
        shop.stack.process.kill()
        with pytest.raises(httpx.TransportError):
            under_way.result()
        shop.stack.start()
        busy = [line for line in shop.stack.process.log if line.get("reason") == "LedgerBusy"]
        assert busy, "it was held"
        wait_until(lambda: shop.outcome("under-way") == "placed", "what was left is settled")
        shop.place("after")
        shop.promise_holds()


@row(
    49,
    fault="a sync takes 5 s",
    answer="201; or 503 `overloaded`, `not_placed`, for whose write had not begun; or 503 `upstream-unavailable`, "
    "`not_placed`, for whose write was in it, and whose time to send was over then",
    holds="nothing is sent late; the metric of commits shows it",
)
def test_row_49_a_slow_sync_sends_nothing_late() -> None:
    orders = 40
    with a_shop() as shop, ThreadPoolExecutor(orders) as tenants:
        shop.place("before")
        shop.disk.arm(Rule(what="sync", file="-wal", first=1, last=1, stall_s=STALL_S))
        waiting = [tenants.submit(shop.order, f"m{at}") for at in range(orders)]
        with _Health(shop.stack.tenant_url) as health:
            answers = [order.result() for order in waiting]
        said = ["placed" if answer.status_code == 201 else problem(answer) for answer in answers]
        assert set(said) <= {"placed", OVERLOADED, TOO_LATE}
        assert health.answers > 5
        refused = {f"m{at}" for at, one in enumerate(said) if one != "placed"}
        assert not refused & set(shop.taken()), "nothing that was refused was sent"
        wait_until(lambda: _commits_took_s(shop) >= STALL_S, "the slow commit's end")
        for mark in sorted(refused):
            shop.place(mark)
        shop.settled()
        shop.promise_holds()


def _commits_took_s(shop: Shop) -> float:
    headers = {"authorization": f"Bearer {shop.stack.admin_token}"}
    text = httpx.get(f"{shop.stack.admin_url}/metrics", headers=headers, trust_env=False, timeout=30).text
    total = re.search(r"^ordergate_ledger_commit_duration_seconds_sum(?:\{\})? (\S+)$", text, re.MULTILINE)
    assert total is not None
    return float(total[1])
