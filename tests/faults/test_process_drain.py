"""SIGTERM with orders in flight and orders waiting for a place."""

import signal
from collections import Counter
from typing import Any, Final

from tests.accept.world import wait_until
from tests.faults.matrix import row
from tests.faults.run import Run, a_run

PLACES: Final = 20
SETTINGS: Final[dict[str, Any]] = {
    "upstream__max_in_flight": PLACES,
    "admission__max_wait_s": 60,
    "shutdown__drain_s": 80,
}


def outcomes(run: Run) -> Counter[str]:
    return Counter(row.outcome for row in run.rows().values())


@row(
    62,
    fault="SIGTERM with orders in flight, and as many waiting for a place",
    answer="in flight: 201, placed; waiting: 503 draining, not_placed",
    holds="exit status 0; nothing is unknown from draining; what waited is placed once by the next process",
)
def test_row_62_draining_ends_what_is_in_flight_and_sends_what_waits_away() -> None:
    with a_run(**SETTINGS) as run:
        run.sandbox.set_fault("slow", count=PLACES, after_s=60)
        flying = [run.asking(f"flying-{number}") for number in range(PLACES)]
        wait_until(lambda: len(run.posts) == PLACES, "every place taken")
        waiting = [run.asking(f"waiting-{number}") for number in range(PLACES)]
        wait_until(lambda: outcomes(run) == {"in_flight": PLACES, "queued": PLACES}, "as many waiting")
        run.stack.process.signal(signal.SIGTERM)
        for asking in waiting:
            answer = asking.answer()
            assert answer is not None and answer.status_code == 503
            told = answer.json()
            assert (told["type"], told["outcome"], told["retryable"]) == ("/problems/draining", "not_placed", True)
            assert int(answer.headers["retry-after"]) >= 1
        assert len(run.posts) == PLACES
        run.sandbox.clear_faults()
        answers = [asking.answer() for asking in flying]
        assert [answer and answer.status_code for answer in answers] == [201] * PLACES
        assert run.stack.process.wait() == 0
        assert outcomes(run) == {"placed": PLACES, "not_placed": PLACES}
        run.stack.start()
        for number in range(PLACES):
            run.placed(f"waiting-{number}")
        assert len(run.posts) == 2 * PLACES
