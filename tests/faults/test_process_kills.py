"""The process killed at each point of an order's life: what was sent, what the ledger says then, and how it ends.

`tests/crash` stops it at every step there is; here are the points that the promise speaks of.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import pytest

from tests.accept.world import wait_until
from tests.crash.nursery_client import Nursery
from tests.crash.points import Home, Life, Stage, Step, a_stage, make_home
from tests.crash.steps import AFTER, BEFORE, MIDDLE
from tests.crash.test_crash_points import STORIES, ask
from tests.faults.matrix import row
from tests.support.records import rows_of

ONCE: Final = "an order with a key"
TWICE: Final = "sent again after 429"
TRIES: Final = 3


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """The `nth` step (from 0; -1 the last) whose name begins so, and where in it.

    `sent`: the orders that began to arrive at OfferGrid until then. `says`: what the ledger may say of the order, None
    for nothing.
    """

    step: str
    nth: int = 0
    how: str = BEFORE
    story: str = ONCE
    sent: int
    says: tuple[str | None, ...]


POINTS: Final[dict[str, Point]] = {
    "before the claim": Point(step="tenant receive", sent=0, says=(None,)),
    "claimed, before the intent is written": Point(step="wal write", sent=0, says=(None,)),
    "in the middle of writing the intent": Point(step="wal sync", sent=0, says=(None, "in_flight")),
    "the intent is durable": Point(step="wal sync", how=AFTER, sent=0, says=("in_flight",)),
    "not connected yet": Point(step="upstream connect", sent=0, says=("in_flight",)),
    "connected, not a byte sent": Point(step="upstream send", sent=0, says=("in_flight",)),
    "half of it sent": Point(step="upstream send", how=MIDDLE, sent=1, says=("in_flight",)),
    "all of it sent": Point(step="upstream send", how=AFTER, sent=1, says=("in_flight",)),
    "before the answer is read": Point(step="upstream receive", sent=1, says=("in_flight",)),
    "the answer is read": Point(step="upstream receive", nth=-1, how=AFTER, sent=1, says=("in_flight",)),
    "in the middle of settling": Point(step="wal sync", nth=-1, sent=1, says=("in_flight", "placed")),
    "settled, before answering": Point(step="tenant send", sent=1, says=("placed",)),
    "half of the answer written": Point(step="tenant send", nth=-1, how=MIDDLE, sent=1, says=("placed",)),
    "between two attempts": Point(
        step="upstream send", nth=1, story=TWICE, sent=1, says=("in_flight",)
    ),
    "before the second attempt is written": Point(
        step="wal sync", nth=1, story=TWICE, sent=1, says=("in_flight",)
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("kills")
    (folder / "home").mkdir()
    with Nursery() as nursery:
        home: Home = make_home(folder / "home")
        with a_stage(nursery, home, folder / "stage") as found:
            yield found


@pytest.fixture(scope="module")
def steps(stage: Stage) -> dict[str, list[Step]]:
    return {name: stage.told_in_full(STORIES[name]) for name in (ONCE, TWICE)}


@row(
    60,
    fault="kill -9 at each point of an order's life",
    answer="none; asked again: 201, or 502 outcome-unknown as long as nobody knows",
    holds="nothing is sent before the intent is durable; what was sent is in the ledger; in the end one order at most",
)
@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
def test_row_60_killed_at_each_point(stage: Stage, steps: dict[str, list[Step]], point: Point) -> None:
    step = [step for step in steps[point.story] if step.name.startswith(point.step)][point.nth]
    # A step of the upkeep beside the order may have got the number: then once more.
    assert any(killed_at(stage, point, step) for _ in range(TRIES)), f"never killed at {step}"


def killed_at(stage: Stage, point: Point, step: Step) -> bool:
    story = STORIES[point.story]
    with stage.life() as life:
        if story.before is not None:
            story.before(life)
        assert life.start(step.number, point.how)
        ask(life)
        life.run.kill()
        if life.steps()[-1] != step:
            return False
        assert life.told == []
        wait_until(lambda: posts(life) >= point.sent, "what was sent at the sandbox")
        assert posts(life) == point.sent
        said: list[str | None] = [found.outcome for found in rows_of(life.ledger)]
        said = said or [None]
        assert len(said) == 1 and said[0] in point.says
        wrong = [*life.heal(), *life.broken()]
        assert not wrong, "\n".join(wrong)
        if "placed" in said:  # the answer was durable: it is told, and nothing is sent again
            assert {answer.status for answer in life.told} == {201}
            assert posts(life) == 1
        return True


def posts(life: Life) -> int:
    return sum(log.raw("in").count(b"POST /reseller/orders") for log in life.sandbox.connections)
