"""Several `serve` on one ledger: one is stopped or dies, and the others neither wait for it nor do its work twice."""

import signal
import threading
import time
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.accept.world import wait_until
from tests.faults.matrix import row
from tests.faults.run import a_run
from tests.support.stack import Process

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
