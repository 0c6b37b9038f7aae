"""Two thousand histories, none of which may break an invariant; and the same seed is the same history anywhere.

All of them together take about 60 s on two cores; `make soak` plays many more.
"""

import os
import subprocess
import sys

import pytest

from tests.rules.source import ROOT
from tests.simulate.soak import play_some, replay_line

SEEDS = 2_000
CHUNK = 125

EXERCISED = frozenset({
    "aimed kill", "power_cut", "paused", "start_failed", "stopped", "not_committed", "too_late", "resolved",
    "listing short", "log recovered", "log reconciled", "log key_refused", "scenario late",
    "told broken", "told draining", "told idempotency-key-reused", "told ledger-unavailable", "told order-in-flight",
    "told order-rejected", "told outcome-unknown", "told overloaded", "told placed", "told upstream-credentials",
    "told upstream-throttled", "told upstream-unavailable",
})  # fmt: skip
"""What happens in any hundred histories, or they have lost their teeth."""

DIGESTS = """
import sys
from tests.simulate.history import play_one
print(*(play_one(seed).digest for seed in range(int(sys.argv[1]), int(sys.argv[2]))))
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_history_breaks_an_invariant(first: int) -> None:
    part = play_some(first, CHUNK, large=False)
    failed = [
        f"seed {seed}: {faults[0]}\n  {replay_line(seed, large=False)}" for seed, faults in part.failed.items()
    ]
    assert part.seeds == CHUNK and part.seen.keys() >= EXERCISED, EXERCISED - part.seen.keys()
    assert not failed, "\n" + "\n".join(failed)


def test_the_same_seed_is_the_same_history_in_any_process() -> None:
    def digests(hash_seed: str, first: int) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-c", DIGESTS, str(first), "20"],
            env=environment, check=True, capture_output=True, text=True, timeout=300,
        ).stdout  # fmt: skip

    one, other = digests("1", 0), digests("2", 0)
    assert one == other
    assert one.split()[7:] == digests("3", 7).split(), (
        "a history does not depend on those that were played before it"
    )
    assert len(set(one.split())) == 20
