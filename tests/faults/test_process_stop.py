"""Signals that ask the gateway to stop: what is in flight ends, and nothing is left in doubt by the stopping."""

import signal
import threading
from typing import Final

import pytest

from tests.accept.world import wait_until
from tests.faults.matrix import row
from tests.faults.run import a_run

CLEAN: Final = (0, 130, -signal.SIGTERM, -signal.SIGINT)
"""Done, ended by Ctrl-C, or ended by the signal before there was anything to end in good order."""


@row(
    63,
    fault="SIGINT or SIGTERM with an order in flight",
    answer="201; placed",
    holds="it stops only then, with exit status 0",
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_row_63_one_signal_waits_for_what_is_in_flight(number: signal.Signals) -> None:
    with a_run() as run:
        run.sandbox.set_fault("slow", after_s=60)
        asking = run.asking("k")
        wait_until(lambda: run.taken("k") != [], "the order at the sandbox")
        run.stack.process.signal(number)
        run.stack.process.wait_for("draining")
        run.sandbox.clear_faults()
        answer = asking.answer()
        assert answer is not None and answer.status_code == 201
        assert run.stack.process.wait() == 0
        assert run.rows()["k"].outcome == "placed"
        assert len(run.posts) == 1


@row(
    63,
    part="a second signal",
    answer="no answer; unknown, then placed",
    holds="it stops at once, with exit status 0; the next start finds the order",
)
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_row_63_a_second_signal_ends_the_patience(second: signal.Signals) -> None:
    with a_run(reconcile__interval_s=0.2, upstream__timeout_s=100, shutdown__drain_s=200) as run:
        run.sandbox.set_fault("place_then_hang")
        asking = run.asking("k")
        wait_until(lambda: run.taken("k") != [], "the order at the sandbox")
        run.stack.process.signal(signal.SIGTERM)
        run.stack.process.wait_for("draining")
        run.stack.process.signal(second)
        # Without a second signal it would take the 100 s of the order.
        assert run.stack.process.wait(60) == 0
        asking.answer()
        assert run.rows()["k"].outcome in ("in_flight", "unknown")
        run.stack.start()
        assert [run.placed("k").json()["orderId"]] == run.taken("k")
        assert len(run.posts) == 1


@row(
    63,
    part="either of them while it starts",
    answer="no answer; nothing",
    holds="it ends; the next start serves",
)
def test_row_63_a_signal_during_the_start_ends_it() -> None:
    with a_run() as run:
        run.placed("first")
        run.stack.process.stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # From before its first line of code to after its last one of starting, wherever the machine's load puts it.
            for after_s in (0.0, 0.15, 0.3, 0.6):
                starting = run.another()
                threading.Event().wait(after_s)
                starting.signal(number)
                assert starting.wait() in CLEAN
        run.stack.start()
        assert run.placed("first").headers["idempotent-replayed"] == "true"
        run.placed("second")
        assert len(run.posts) == 2
