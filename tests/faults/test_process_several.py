"""Several `serve` on one ledger: one is stopped or dies, and the others neither wait for it nor do its work twice."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.accept.world import wait_until
from tests.faults.matrix import row
from tests.faults.run import Run, a_run
from tests.support.needs import ROOT
from tests.support.stack import Process, an_order, running_stack

STOPPING: Final = ("tests.faults.child_stall", "serve")
HEALS: Final[dict[str, Any]] = {"reconcile__interval_s": 0.2, "reconcile__settle_after_s": 0.5}
TAKEN_OVER_S: Final = 10.0
TENANTS: Final = 6


def stopped(process: Process) -> bool:
    """Whether the kernel has stopped it."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].startswith("T")


@row(
    61,
    fault="SIGSTOP between the durable intent and the first byte, another process alive; later SIGCONT",
    answer="409 order-in-flight meanwhile; 503 upstream-unavailable, not_placed, once it goes on",
    holds="nobody takes the order over; the process that wakes up sends nothing; asked again, one order",
)
def test_row_61_a_process_that_wakes_up_sends_nothing() -> None:
    with a_run(program=STOPPING, upstream__timeout_s=2, **HEALS) as run, run.beside() as other:
        (run.stack.folder / "stall-after-claim").write_text("stop")
        asking = run.asking("k")
        wait_until(lambda: stopped(run.stack.process), "the process stopped")
        until = time.monotonic() + 5  # past its time to send, and past two rounds of looking for the dead
        while time.monotonic() < until:
            assert said(run.order("k", at=other)) == (409, "in_flight")
            threading.Event().wait(0.2)
        assert run.sandbox.connections == [] or run.posts == []
        run.stack.process.signal(signal.SIGCONT)
        assert said(asking.answer()) == (503, "not_placed")
        assert run.posts == []
        again = run.order("k", at=other)
        assert again is not None and again.status_code == 201
        assert len(run.posts) == 1


@row(
    61,
    part="killed while it is stopped",
    answer="409 until then; 502 outcome-unknown, then 201",
    holds="its order is taken over, found not to be there, and placed once",
)
def test_row_61_a_process_that_never_wakes_up_is_taken_over_when_it_is_gone() -> None:
    with a_run(program=STOPPING, upstream__timeout_s=2, **HEALS) as run, run.beside() as other:
        (run.stack.folder / "stall-after-claim").write_text("stop")
        asking = run.asking("k")
        wait_until(lambda: stopped(run.stack.process), "the process stopped")
        assert said(run.order("k", at=other)) == (409, "in_flight")
        run.stack.process.kill()
        assert asking.answer() is None
        wait_until(lambda: said(run.order("k", at=other))[0] != 409, "it is taken over")
        run.heals("k", at=other)


def said(answer: httpx.Response | None) -> tuple[int, str]:
    assert answer is not None
    return answer.status_code, "placed" if answer.status_code == 201 else answer.json()["outcome"]


@row(
    69,
    fault="one of two processes on one ledger is killed under load",
    answer="201 from the other; what the dead one had in flight: 502 outcome-unknown, then 201",
    holds="the other serves on; nothing of the dead one's is left in flight 10 s later; every order once",
)
def test_row_69_one_of_two_dies_under_load() -> None:
    with a_run(**HEALS, upstream__timeout_s=5, upstream__breaker_failures=1_000_000) as run, run.beside() as other:
        over = threading.Event()
        keys: list[str] = []

        def load(tenant: int) -> None:
            number = 0
            while not over.is_set():
                key, number = f"{tenant}-{number}", number + 1
                keys.append(key)
                run.order(key, at=(run.stack.process, other)[(tenant + number) % 2])

        threads = [threading.Thread(target=load, args=(tenant,)) for tenant in range(TENANTS)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(run.posts) > 20, "a load")
        run.sandbox.set_fault("place_then_hang", count=4)
        wait_until(
            lambda: len([post for post in run.posts if post.fault == "place_then_hang"]) == 4, "four in flight"
        )
        other.kill()
        killed_at = time.monotonic()
        served = len(run.posts)
        wait_until(lambda: len(run.posts) > served + 20, "the other serves on")
        over.set()
        for thread in threads:
            thread.join()
        wait_until(lambda: not [row for row in run.rows().values() if row.outcome == "in_flight"], "none in flight")
        print(f"in flight for {time.monotonic() - killed_at:.1f} s")  # noqa: T201  # the figure
        run.sandbox.clear_faults()
        for key in keys:
            run.heals(key)


@pytest.mark.parametrize("keyed", [True, False], ids=["with a key", "by the body"])
@row(
    73,
    part="over two processes on one ledger",
    answer="one 201; the others 409 order-in-flight, or the same 201",
    holds="one POST; every 201 has the same bytes",
)
def test_row_73_fifty_at_once_at_two_processes_are_one_order(keyed: bool) -> None:
    with a_run() as run, run.beside() as other:
        run.sandbox.set_fault("slow", after_s=0.3)
        answers: list[httpx.Response | None] = []

        def ask(number: int) -> None:
            at = (run.stack.process, other)[number % 2]
            answers.append(run.order("k" if keyed else None, at=at, notes="k"))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 50 and None not in answers
        assert {said(answer) for answer in answers} <= {(201, "placed"), (409, "in_flight")}
        placed = [answer for answer in answers if answer is not None and answer.status_code == 201]
        assert len([answer for answer in placed if "idempotent-replayed" not in answer.headers]) == 1
        assert len({answer.content for answer in placed}) == 1
        assert len(run.posts) == 1


@row(
    70,
    fault="two gateways with a ledger each place orders with one key",
    answer="201; placed",
    holds="each counts the other's orders in ordergate_foreign_orders_total, once, and loudly; doctor fails",
)
def test_row_70_another_ledgers_orders_are_noticed() -> None:
    with a_run(**HEALS) as run:
        with (
            running_stack(upstream_base_url=run.sandbox.base_url, **HEALS) as stranger,
            stranger.client() as client,
        ):
            for number in range(3):
                answer = client.post("/orders", json=an_order(notes=f"strange-{number}"))
                assert answer.status_code == 201
                run.strangers.add(answer.headers["ordergate-order-id"])
        # Looking for one of its own, it sees the others.
        run.sandbox.set_fault("place_then_reset")
        run.placed("own")
        wait_until(lambda: foreign_orders(run) == 3, "the other ledger's orders counted")
        assert run.stack.process.wait_for("foreign_orders")["count"] == 3
        run.sandbox.set_fault("place_then_reset")
        run.placed("another")
        assert foreign_orders(run) == 3, "counted once"
        found = doctor(run)
        assert found.returncode == 1, found.stdout + found.stderr
        (check,) = [check for check in json.loads(found.stdout) if check["check"] == "account of team"]
        assert not check["ok"]
        assert "3 orders that another ledger placed" in check["detail"]


def foreign_orders(run: Run) -> float:
    text = httpx.get(f"{run.stack.admin_url}/metrics", trust_env=False).text
    lines = [line for line in text.splitlines() if line.startswith("ordergate_foreign_orders_total ")]
    return float(lines[0].rpartition(" ")[2])


def doctor(run: Run) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **run.stack.environ}
    command = [sys.executable, "-m", "gateway.cli.main", "--json", "doctor"]
    return subprocess.run(command, cwd=run.stack.folder, env=environ, capture_output=True, text=True, timeout=60)


@row(70, part="an account of one's own", answer="201; placed", holds="doctor finds nothing")
def test_row_70_an_account_of_ones_own_passes_doctor() -> None:
    with a_run() as run:
        run.placed("own")
        found = doctor(run)
        assert found.returncode == 0, found.stdout + found.stderr
        assert "account of" not in found.stdout
