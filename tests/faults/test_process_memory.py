"""Memory runs out in the middle of an order, at one place after the other: what is told of it is true."""

from collections import Counter
from typing import Any, Final

import httpx

from tests.accept.world import wait_until
from tests.faults.child_memory import COUNTS
from tests.faults.matrix import row
from tests.faults.run import Run, a_run

FAILING: Final = ("tests.faults.child_memory", "serve")
PLACES: Final = 30
HEALS: Final[dict[str, Any]] = {
    "reconcile__interval_s": 0.1,
    "reconcile__settle_after_s": 0.2,
    "upstream__breaker_failures": 1_000_000,
}


@row(
    64,
    fault="no memory, at one of many places of an order's way after the other",
    answer="201, 409, 500, 502 or 503 with a true outcome; or 500 without one, 400 where it could not be read, or none",
    holds="the process goes on, or ends for its supervisor; asked again, each order is placed once",
)
def test_row_64_without_memory_what_is_told_is_true() -> None:
    with a_run(program=FAILING, **HEALS) as run:
        run.placed("warm")
        steps = fails_at(run, COUNTS, "count")
        assert steps > 300, "nothing was counted"
        stride = max(1, steps // PLACES)
        # A little further than the last step: the upkeep beside the orders takes some of its own.
        keys = {f"place-{place}": place for place in range(1, steps + 3 * stride, stride)}
        told = Counter(fail(run, key, place) for key, place in keys.items())
        print(dict(told))  # noqa: T201  # the figures
        run.stack.process.kill()  # with what has not failed yet
        run.stack.start()
        for key in keys:
            run.heals(key)


def fail(run: Run, key: str, place: int) -> str:
    """An order with a failure at this place; what was told of it."""
    serve_again(run)
    (run.stack.folder / "fail-at").write_text(str(place))
    answer = run.order(key)
    if answer is None:
        return "nothing"
    if answer.status_code == 400:  # it hit the parser, which cannot tell its own want of memory from bad bytes
        assert run.taken(key) == [], "told unreadable, and it is there"
    assert answer.status_code in (201, 400, 409, 500, 502, 503), answer.text
    if answer.headers["content-type"] != "application/problem+json":
        return str(answer.status_code)
    outcome = answer.json().get("outcome")
    if outcome == "not_placed":
        assert run.taken(key) == [], "told not placed, and it is there"
    return f"{answer.status_code} {outcome}"


def serve_again(run: Run) -> None:
    """What a supervisor does with a process that has ended, or cannot be reached any more."""
    process = run.stack.process
    if not process.ended:
        try:
            httpx.get(process.address("tenant") + "/healthz", timeout=5, trust_env=False)
        except httpx.TransportError:
            process.kill()
    if process.ended:
        run.stack.start()


def fails_at(run: Run, place: int, key: str) -> int:
    (run.stack.folder / "fail-at").write_text(str(place))
    run.order(key)
    file = run.stack.folder / "steps"
    wait_until(file.exists, "the steps counted")
    return int(file.read_text())
