"""The wall clock steps, while orders are on their way, between them, and across restarts: nothing depends on it."""

from typing import Any, Final

import pytest

from tests.accept.world import wait_until
from tests.faults.child_clock import FILE
from tests.faults.matrix import row
from tests.faults.run import Run, a_run

STEPPING: Final = ("tests.faults.child_clock", "serve")
HOUR_MS: Final = 3_600_000
STEPS: Final = {"+1 h": HOUR_MS, "-1 h": -HOUR_MS, "+1 year": 365 * 24 * HOUR_MS}
# A key lives for an hour, a body for as long: by the wall clock each step forward would end them.
SETTINGS: Final[dict[str, Any]] = {"idempotency__ttl_s": 3600, "idempotency__implicit_window_s": 3600}


def step(run: Run, by_ms: int) -> None:
    """At once, and never half of it."""
    new = run.stack.folder / "clock.new"
    new.write_text(str(by_ms))
    new.replace(run.stack.folder / FILE)


@row(
    66,
    fault="the wall clock steps by an hour either way, or a year, with the order at OfferGrid",
    answer="201; placed",
    holds="sent once; its attempt is written down",
)
@pytest.mark.parametrize("by_ms", STEPS.values(), ids=STEPS)
def test_row_66_a_step_while_the_order_is_in_flight(by_ms: int) -> None:
    with a_run(program=STEPPING, checks_times=False, **SETTINGS) as run:
        run.sandbox.set_fault("slow", after_s=60)
        asking = run.asking("k")
        wait_until(lambda: run.taken("k") != [], "the order at the sandbox")
        step(run, by_ms)
        run.sandbox.clear_faults()
        answer = asking.answer()
        assert answer is not None and answer.status_code == 201
        # Nor do the waits for what comes next depend on it.
        run.sandbox.set_fault("status", code=429, retry_after=1)
        assert run.placed("next").status_code == 201
        assert len(run.posts) == 3


@row(
    66,
    part="between an order and its repetition, and across a restart",
    answer="the first answer again",
    holds="no key expires early, and no body is a new order early",
)
@pytest.mark.parametrize("by_ms", STEPS.values(), ids=STEPS)
def test_row_66_a_step_ends_no_key_and_no_window(by_ms: int) -> None:
    with a_run(program=STEPPING, checks_times=False, **SETTINGS) as run:
        first = run.placed("k")
        step(run, by_ms)
        repeated(run, first.content)
        run.stack.restart()
        repeated(run, first.content)
        step(run, 0)
        repeated(run, first.content)
        assert len(run.posts) == 1


def repeated(run: Run, content: bytes) -> None:
    """With the key and without it."""
    for key in ("k", None):
        again = run.order(key, notes="k")
        assert again is not None and (again.status_code, again.content) == (201, content)
        assert again.headers["idempotent-replayed"] == "true"


@row(
    66,
    part="with the order in doubt when the process was killed",
    answer="502 outcome-unknown, then 201",
    holds="it is found all the same, and sent once",
)
@pytest.mark.parametrize("by_ms", STEPS.values(), ids=STEPS)
def test_row_66_a_step_over_a_crash(by_ms: int) -> None:
    with a_run(program=STEPPING, checks_times=False, reconcile__interval_s=0.2, **SETTINGS) as run:
        run.sandbox.set_fault("place_then_hang")
        asking = run.asking("k")
        wait_until(lambda: run.taken("k") != [], "the order at the sandbox")
        run.stack.process.kill()
        asking.answer()
        step(run, by_ms)
        run.stack.start()
        assert [run.placed("k").json()["orderId"]] == run.taken("k")
        assert len(run.posts) == 1


@row(
    66,
    part="with an order unknown that OfferGrid does not have",
    answer="502 outcome-unknown",
    holds="absence is not proven early: not a minute of the wall clock's, but of the machine's",
)
def test_row_66_a_step_proves_no_absence() -> None:
    settings = {**SETTINGS, "reconcile__interval_s": 0.1, "reconcile__settle_after_s": 3600}
    with a_run(program=STEPPING, checks_times=False, **settings) as run:
        run.sandbox.set_fault("reset_after_read")
        assert told(run) == 502
        step(run, STEPS["+1 year"])
        looks = listings(run)
        wait_until(lambda: listings(run) > looks + 10, "ten looks after the step")
        assert told(run) == 502
        assert len(run.posts) == 1


def told(run: Run) -> int | None:
    answer = run.order("k")
    return None if answer is None else answer.status_code


def listings(run: Run) -> int:
    return len([call for call in run.sandbox.calls if call.method == "GET"])
