"""What the histories are worth: each promise is broken on purpose, and some history must show it.

How many seeds that took is printed (`pytest -s`). All of them together take some 30 s.
"""

from collections.abc import Callable

import pytest

from tests.simulate.history import play_one
from tests.simulate.sabotage import SABOTAGES, Patch

SEEDS = 400
"""None needs a tenth of the histories that `test_histories` plays."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.__name__)
def test_a_broken_promise_is_found(sabotage: Callable[[], Patch]) -> None:
    for seed in range(SEEDS):
        with sabotage():
            verdict = play_one(seed)
        if verdict.faults:
            print(f"{sabotage.__name__}: after {seed + 1} seeds: {verdict.faults[0]}")  # noqa: T201 - a figure
            return
    pytest.fail(f"{SEEDS} histories, and none shows it")
