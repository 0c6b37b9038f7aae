"""The event loop stands still, or its threads are all occupied: orders are late, and never wrong."""

import signal
import time
from typing import Final

import httpx

from tests.accept.world import wait_until
from tests.faults.child_stall import STALL_S
from tests.faults.matrix import row
from tests.faults.run import Run, a_run

STALLING: Final = ("tests.faults.child_stall", "serve")
LARGE: Final = "n" * 100_000
"""Read beside the event loop."""


@row(
    67,
    fault="the event loop stands still for 3 s with the answer on its way",
    answer="201; placed",
    holds="late, and sent once",
)
def test_row_67_a_stall_while_the_answer_comes_is_only_late() -> None:
    with a_run(program=STALLING) as run:
        run.sandbox.set_fault("slow", after_s=60)
        asking = run.asking("k")
        wait_until(lambda: run.taken("k") != [], "the order at the sandbox")
        began = time.monotonic()
        stand_still(run)
        run.sandbox.clear_faults()
        answer = asking.answer()
        assert answer is not None and answer.status_code == 201
        assert time.monotonic() - began > STALL_S / 2, "it never stood still"
        assert len(run.posts) == 1


@row(
    67,
    part="longer than the order's time",
    answer="201 or 504 outcome-unknown; in the end placed",
    holds="what is told is true, and sent once",
)
def test_row_67_a_stall_past_the_orders_time_is_told_honestly() -> None:
    with a_run(program=STALLING, upstream__timeout_s=2, reconcile__interval_s=0.2) as run:
        run.sandbox.set_fault("slow", after_s=60)
        asking = run.asking("k")
        wait_until(lambda: run.taken("k") != [], "the order at the sandbox")
        stand_still(run)
        run.sandbox.clear_faults()
        answer = asking.answer()
        assert answer is not None and answer.status_code in (201, 504), answer
        assert [run.placed("k").json()["orderId"]] == run.taken("k")
        assert len(run.posts) == 1


@row(
    67,
    part="between the durable intent and the first byte, past the time to send",
    answer="503 upstream-unavailable; not_placed",
    holds="not a byte goes out; the same key places it afterwards",
)
def test_row_67_after_a_stall_nothing_is_sent_that_is_too_late() -> None:
    with a_run(program=STALLING, upstream__timeout_s=2) as run:
        (run.stack.folder / "stall-after-claim").write_text("1.5")
        answer = run.order("k")
        assert answer is not None and answer.status_code == 503, answer
        assert (answer.json()["type"], answer.json()["outcome"]) == (
            "/problems/upstream-unavailable", "not_placed",
        )  # fmt: skip
        assert run.rows()["k"].outcome == "not_placed"
        assert run.posts == []
        assert sum(connection.bytes_in for connection in run.sandbox.connections) == 0
        assert run.placed("k").headers["ordergate-order-id"] == answer.headers["ordergate-order-id"]
        assert len(run.posts) == 1


def stand_still(run: Run) -> None:
    run.stack.process.signal(signal.SIGUSR1)
    wait_until((run.stack.folder / "stalling").exists, "the stall begun")


def occupy(run: Run) -> None:
    """Every thread of the pool, seen by what needs one."""
    run.stack.process.signal(signal.SIGUSR2)
    wait_until(lambda: not _shows(run), "every thread occupied")


def _shows(run: Run) -> bool:
    try:
        httpx.get(run.stack.admin_url + "/metrics", timeout=1, trust_env=False)
    except httpx.ReadTimeout:
        return False
    return True


@row(
    68,
    fault="every thread of the pool is occupied, and OfferGrid's name has to be resolved",
    answer="503 upstream-unavailable; not_placed",
    holds="not a byte goes out; once there are threads again, the same key places it",
)
def test_row_68_without_threads_nothing_is_sent() -> None:
    with a_run(program=STALLING, host="localhost", upstream__connect_timeout_s=0.3) as run:
        occupy(run)
        answer = run.order("k")
        assert answer is not None and answer.status_code == 503, answer
        assert (answer.json()["type"], answer.json()["outcome"]) == (
            "/problems/upstream-unavailable", "not_placed",
        )  # fmt: skip
        assert run.posts == []
        (run.stack.folder / "free").touch()
        assert run.placed("k").headers["ordergate-order-id"] == answer.headers["ordergate-order-id"]
        assert len(run.posts) == 1


@row(
    68,
    part="the connection to OfferGrid being there already",
    answer="201; placed",
    holds="the ledger has threads of its own",
)
def test_row_68_without_threads_orders_go_on() -> None:
    with a_run(program=STALLING, upstream__keepalive_idle_s=60) as run:
        run.placed("first")
        occupy(run)
        for key in ("second", "third"):
            answer = run.order(key)
            assert answer is not None and answer.status_code == 201, answer
        assert len(run.posts) == 3
        (run.stack.folder / "free").touch()


@row(
    68,
    part="a large body, which is read in a thread",
    answer="503 overloaded; not_placed",
    holds="nothing is claimed; once there are threads again, the same key places it",
)
def test_row_68_without_threads_large_bodies_are_refused() -> None:
    with a_run(program=STALLING, tenant_api__body_timeout_s=0.5) as run:
        occupy(run)
        answer = run.order("k", more=LARGE)
        assert answer is not None and answer.status_code == 503, answer
        told = answer.json()
        assert (told["type"], told["outcome"], told["retryable"]) == ("/problems/overloaded", "not_placed", True)
        assert int(answer.headers["retry-after"]) >= 1
        assert "orderId" not in told
        assert run.posts == []
        (run.stack.folder / "free").touch()
        run.placed("k", more=LARGE)
        assert len(run.posts) == 1
