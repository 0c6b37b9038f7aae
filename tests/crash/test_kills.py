"""The gateway killed, and stopped and woken, again and again under load: nothing is placed twice, nothing is lost.

Where it hits is left to chance here; `test_crash_points.py` goes through the steps of one order.
"""

import os
import random
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.sandbox import SandboxThread
from tests.crash.load import Load
from tests.crash.nursery_client import Nursery, Run
from tests.crash.points import HEALING, Life, make_home

SOAK: Final = os.environ.get("ORDERGATE_SOAK") == "1"
ROUNDS: Final = 25 if SOAK else 1
"""Each with a ledger and a sandbox of its own, so that listings stay short however long it goes on."""

KILLS: Final = 20
STOPS: Final = 4
PROCESSES: Final = 2
"""On one ledger."""

SETTINGS: Final[dict[str, Any]] = {**HEALING, "upstream__timeout_s": 2}
FAULTS: Final = ("place_then_reset", "place_then_500", "reset_after_read", "slow", "idle_close", "truncate")


class Figures(Counter[str]):
    def __str__(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in self.items())


def stop_and_wake(run: Run, for_s: float) -> None:
    run.signal(signal.SIGSTOP)
    threading.Event().wait(for_s)
    run.signal(signal.SIGCONT)


def a_round(life: Life, chance: random.Random, figures: Figures) -> list[str]:
    """Kills, stops and faults in a row under load, then quiet; what is broken."""
    runs = [life.launch(**SETTINGS) for _ in range(PROCESSES)]
    load = Load(life, runs)
    deeds = ["kill"] * KILLS + ["stop"] * STOPS
    chance.shuffle(deeds)
    try:
        for deed in deeds:
            life.sandbox.set_fault(chance.choice(FAULTS))
            threading.Event().wait(chance.uniform(0.05, 0.5))
            at = chance.randrange(PROCESSES)
            assert not runs[at].ended.is_set(), f"it ended by itself with {runs[at].status}: {runs[at].log()[-20:]}"
            if deed == "kill":
                runs[at].kill()
                runs[at] = life.launch(**SETTINGS)
            else:
                # Past the instant until which an order that was in hand may be sent, and past its timeout.
                stop_and_wake(runs[at], chance.choice((0.2, 1.2, 2.5)))
        life.sandbox.clear_faults()
        for run in runs:
            assert run.ready(), f"it ended by itself with {run.status}: {run.log()[-20:]}"
    finally:
        left = load.end()
    left += life.settled()
    for run in runs:
        left += load.miscounted(run)
        run.kill()
    found = life.records()
    held = Counter(order.mark for order in found.taken)
    figures["orders"] += len(found.taken)
    figures["kills"] += KILLS
    figures["stops"] += STOPS
    figures["placed twice"] += sum(count - 1 for count in held.values())
    figures["lost"] += len({told.mark for told in found.told if told.status == 201} - set(held))
    figures["told 201"] += len({told.mark for told in found.told if told.status == 201})
    return [*left, *life.broken()]


@pytest.mark.timeout(120 * ROUNDS)
def test_no_order_is_placed_twice_or_lost_however_often_the_gateway_is_killed(tmp_path: Path) -> None:
    seed = int(os.environ.get("ORDERGATE_SEED", "20261123"))
    chance, figures = random.Random(seed), Figures()  # noqa: S311  # no secret: when to kill
    home = make_home(tmp_path / "home")
    try:
        with Nursery() as nursery:
            for number in range(ROUNDS):
                folder = tmp_path / str(number)
                folder.mkdir()
                with SandboxThread(per_minute=0, per_hour=0) as sandbox:
                    wrong = a_round(Life(nursery, home, folder, sandbox), chance, figures)
                assert not wrong, f"round {number} of seed {seed}: " + "\n".join(wrong)
    finally:
        print(figures)  # noqa: T201  # the figures
    assert figures["orders"] > KILLS
