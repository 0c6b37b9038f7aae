"""The gateway stopped at every step that it does to the world outside it, one after the other.

A step is whatever outlives the process or is seen from outside (`tests/crash/steps.py` numbers them by themselves, so
that new ones are met without anybody's listing them). After each stop the program starts again on what is left, the
tenant asks again, and the three records must agree. The process that has recovered must then hold the descriptors,
tasks and threads of one that had nothing to recover.
"""

import os
import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from gateway.broker.vault import Secret
from tests.crash.nursery_client import WITHIN_S, Nursery
from tests.crash.points import (
    HEALING,
    SECOND_KEY,
    Home,
    Life,
    Stage,
    Step,
    Story,
    a_stage,
    make_home,
    many,
    with_rest,
)
from tests.crash.steps import AFTER, BEFORE, MIDDLE
from tests.rules.source import ROOT
from tests.support.audit_log import audit_log_broken
from tests.support.records import audited, count_of, rows_of, strays_of, vault_of
from tests.support.stack import outer_environ

AT_ONCE: Final = 4
"""Lives side by side: each waits for its own process most of the time."""

TRIES: Final = 3
REFUSED: Final = 4
"""The exit status of a command that finds its work done already."""

SOAK: Final = os.environ.get("ORDERGATE_SOAK") == "1"
"""The long variant: every write of every story, before, in the middle and after."""

RANDOM_POINTS: Final = 500 if SOAK else 24
BACKUP_POINTS: Final = 12
SEED: Final = int(os.environ.get("ORDERGATE_SEED", "20261123"))

KEY: Final = "key-of-the-order"


def ask(life: Life) -> None:
    life.ask("mark", KEY)


def ask_without_a_key(life: Life) -> None:
    life.ask("mark")


def ask_once_it_is_settled(life: Life) -> None:
    """Only then, so that the steps of finding out and those of answering do not mix."""
    life.until(lambda: not life.unsettled())
    ask(life)


def ask_while_the_place_is_taken(life: Life, *, in_vain: bool = False) -> None:
    """The second order waits for the first one's place until it is free, or its patience ends."""
    life.sandbox.set_fault("slow", after_s=WITHIN_S)
    with ThreadPoolExecutor(2) as tenants:
        tenants.submit(ask, life)
        life.until(lambda: life.sandbox.orders)
        second = tenants.submit(life.ask, "second", f"{KEY}-too")
        life.until(lambda: second.done() or any(row.outcome == "queued" for row in rows_of(life.ledger)))
        if in_vain:
            life.until(second.done)
        life.sandbox.clear_faults()


def ask_side_by_side(life: Life) -> None:
    """Orders that share group commits; two of them are the same order, asked for at once."""
    asked = [(f"mark {number}", f"{KEY} {number}".replace(" ", "-") if number % 2 else None) for number in range(6)]
    with ThreadPoolExecutor(len(asked) + 1) as tenants:
        for mark, key in [*asked, asked[1]]:
            tenants.submit(life.ask, mark, key)


def placed_before(life: Life) -> None:
    life.start()
    ask(life)
    life.run.kill()


def killed_with_it_in_flight(life: Life) -> None:
    """OfferGrid has it, and nobody was there any more to read its answer."""
    life.start("upstream receive")
    ask(life)
    assert len(life.sandbox.orders) == 1


def ask_while_nobody_listens(life: Life) -> None:
    """Until two attempts have met a closed port: before the third there is a pause."""
    life.sandbox.set_fault("refuse", after_s=WITHIN_S)
    asking = threading.Thread(target=ask, args=(life,))
    asking.start()
    while asking.is_alive() and [step.name for step in life.steps()].count("upstream connect") < 2:
        time.sleep(0.005)
    life.sandbox.set_fault("refuse", after_s=0)
    asking.join()


def killed_before_the_first_byte(life: Life) -> None:
    """The intent is written down, and nobody can know any more that nothing was sent."""
    life.start("upstream connect")
    ask(life)
    assert not life.sandbox.orders


def settled_as_absent(life: Life) -> None:
    """OfferGrid did not act on it, as two looks in a row have shown."""
    life.sandbox.set_fault("reset_after_read")
    life.start(**SLOWLY)
    ask(life)
    life.until(lambda: not life.unsettled())
    life.run.kill()
    assert [row.outcome for row in rows_of(life.ledger)] == ["not_placed"]


def arrived_late(life: Life) -> None:
    """And then OfferGrid acts on it all the same, which is the one thing that it may not do."""
    settled_as_absent(life)
    life.arrives_late()


def arrived_late_beside_a_second_one(life: Life) -> None:
    settled_as_absent(life)
    life.start()
    ask(life)
    life.run.kill()
    life.arrives_late()
    assert len(life.sandbox.orders) == 2


def counted_once(life: Life) -> list[str]:
    """By the process that was stopped or by the next, which may have yet to look."""
    life.until(lambda: strays_of(life.ledger))
    strays = [kind for _, kind in strays_of(life.ledger)]
    return [] if strays == ["duplicate"] else [f"what should not be there was counted as {strays}"]


def faulty(kind: str, **parameters: Any) -> Callable[[Life], None]:
    return lambda life: life.sandbox.set_fault(kind, **parameters)


def ask_once_it_is_counted(life: Life) -> None:
    life.until(lambda: strays_of(life.ledger))
    ask(life)


def ask_once_it_is_placed(life: Life) -> None:
    life.until(lambda: [row.outcome for row in rows_of(life.ledger)] == ["placed"])
    ask(life)


SLOWLY: Final[dict[str, Any]] = {**HEALING, "reconcile__interval_s": 0.3, "reconcile__settle_after_s": 0.3}
"""So that two looks are enough to prove an absence, and each run makes the same two."""

STORIES: Final[dict[str, Story]] = {
    "the start": Story(act=ask, from_start=True),
    "an order": Story(act=ask_without_a_key),
    "an order with a key": Story(act=ask),
    "a replay": Story(before=placed_before, act=ask),
    "a replay by the body": Story(before=placed_before, act=ask_without_a_key),
    "sent again, nothing having been sent": Story(act=ask_while_nobody_listens),
    "sent again after 429": Story(before=faulty("status", code=429, retry_after=1), act=ask),
    "waiting for a place": Story(
        act=ask_while_the_place_is_taken,
        settings={"upstream__max_in_flight": 1, "admission__max_wait_s": 20, "shutdown__drain_s": 60},
        mixed=True,
    ),
    "waiting for a place in vain": Story(
        act=partial(ask_while_the_place_is_taken, in_vain=True),
        settings={"upstream__max_in_flight": 1, "admission__max_wait_s": 0.2},
        mixed=True,
    ),
    "a refusal": Story(before=faulty("status", code=400), act=ask),
    "an answer that breaks off": Story(before=faulty("place_then_reset"), act=ask),
    "recovering, and finding it": Story(
        before=killed_with_it_in_flight, act=ask_once_it_is_settled, from_start=True, settings=SLOWLY
    ),
    "recovering, and proving its absence": Story(
        before=killed_before_the_first_byte, act=ask_once_it_is_settled, from_start=True, settings=SLOWLY
    ),
    "finding it late": Story(
        before=arrived_late,
        act=ask_once_it_is_placed,
        from_start=True,
        settings=HEALING,
    ),
    "finding a second one": Story(
        before=arrived_late_beside_a_second_one,
        act=ask_once_it_is_counted,
        also=counted_once,
        from_start=True,
        settings=HEALING,
    ),
}


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as running:
        yield running


@pytest.fixture(scope="module")
def home(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = make_home(tmp_path_factory.mktemp("home"))
    return with_rest(home, nursery, tmp_path_factory.mktemp("rest") / "life")


@contextmanager
def stages(nursery: Nursery, home: Home, folder: Path) -> Iterator[list[Stage]]:
    with ExitStack() as stack:
        yield [stack.enter_context(a_stage(nursery, home, folder / str(at))) for at in range(AT_ONCE)]


def points_of(steps: Sequence[Step], *, every_write: bool) -> Iterator[tuple[Step, str]]:
    """Before each step, in the middle of what is sent, and after the last: after any other is before the next.

    A group of writes without a sync between is one transaction on its way to the disk, which nobody reads before its
    last write. Without `every_write` only its first and last are stopped at.
    """
    for at, step in enumerate(steps):
        inside = all(0 <= near < len(steps) and " write " in steps[near].name for near in (at - 1, at, at + 1))
        if inside and not every_write:
            continue
        yield step, BEFORE
        if step.name.endswith("send") or (SOAK and " write " in step.name):
            yield step, MIDDLE
        if SOAK:
            yield step, AFTER
    if not SOAK:
        yield steps[-1], AFTER


def unsynced(steps: Sequence[Step]) -> Iterator[str]:
    """Where bytes go out while something that was written is not synced yet. Stopping a process cannot show that: what
    it gave to the kernel outlives it. A power cut does.
    """
    waiting: dict[str, Step] = {}
    for step in steps:
        file, _, what = step.name.partition(" ")
        if what.startswith("write"):
            waiting[file] = step
        elif what in ("sync", "fsync", "fdatasync"):
            waiting.pop(file, None)
        elif what == "send" and waiting:
            yield f"step {step.number}, {step.name}, while not synced: {sorted(waiting)}"


def test_what_is_sent_before_it_is_synced_is_seen() -> None:
    names = ("wal write 24", "upstream send", "wal sync", "tenant send")
    steps = [Step(number=number, name=name) for number, name in enumerate(names, 1)]
    assert list(unsynced(steps)) == ["step 2, upstream send, while not synced: ['wal']"]


UNNUMBERED: Final = """
import shutil
from tests.crash.steps import Steps, hook_files
hook_files(Steps({"CRASH_STEPS": "steps"}))
try:
    open("new", "w")
except NotImplementedError:
    print("refused")
shutil.copyfile("whole", "copy")
"""


def test_no_file_is_written_by_a_way_that_is_not_numbered(tmp_path: Path) -> None:
    (tmp_path / "whole").write_bytes(b"text")
    done = subprocess.run(
        [sys.executable, "-c", UNNUMBERED],
        cwd=tmp_path,
        env={**outer_environ(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "refused\n", "")
    assert {"1 file open", "2 file sendfile"} <= set((tmp_path / "steps").read_text().splitlines())


Stop = Callable[[Stage, Step, str], tuple[str | None, list[str]]]
"""Plays up to that point; the name of the step that it stopped at, and what is broken afterwards."""


def play(stop: Stop, points: Iterable[tuple[Step, str]], on: Sequence[Stage]) -> list[str]:
    """Every point once; what is broken at which. A point that another step got the number of is played again."""
    waiting: queue.SimpleQueue[tuple[Step, str, int]] = queue.SimpleQueue()
    wrong: list[str] = []
    for step, how in points:
        waiting.put((step, how, TRIES))

    def run(stage: Stage) -> None:
        with suppress(queue.Empty):
            while True:
                step, how, left = waiting.get_nowait()
                name, found = stop(stage, step, how)
                wrong.extend(f"stopped {how} step {step.number}, {name}: {sentence}" for sentence in found)
                if name != step.name and left:
                    waiting.put((step, how, left - 1))
                elif name != step.name:
                    wrong.append(f"never stopped {how} step {step.number}, {step.name}: it was {name}")

    with ThreadPoolExecutor(len(on)) as threads:
        for done in [threads.submit(run, stage) for stage in on]:
            done.result()
    return wrong


@pytest.mark.parametrize("name", STORIES)
def test_stopped_at_every_step(name: str, nursery: Nursery, home: Home, tmp_path: Path) -> None:
    story = STORIES[name]
    with stages(nursery, home, tmp_path) as on:
        steps = on[0].told_in_full(story)
        assert story.mixed or not list(unsynced(steps))
        points = list(points_of(steps, every_write=SOAK or name == "an order with a key"))
        began = time.monotonic()
        wrong = play(lambda stage, step, how: stage.stopped_at(story, step, how), points, on)
    seconds = time.monotonic() - began
    print(f"{name}: {len(points)} points in {seconds:.1f} s, of {len(steps)} steps: {many(steps)}")  # noqa: T201  # the figures
    assert not wrong, "\n".join(wrong)


def test_paused_at_every_step(nursery: Nursery, home: Home, tmp_path: Path) -> None:
    """A process that stood still for too long sends nothing when it wakes up, and nobody takes its order over
    meanwhile: it lives.
    """
    settings = {**HEALING, "upstream__timeout_s": 1.2}
    story = Story(before=lambda life: life.launch(beside=True, **settings).ready(), act=ask, settings=settings)
    send_within_s = 0.6  # half of the timeout; nothing is sent after that

    with stages(nursery, home, tmp_path) as on:
        steps = on[0].told_in_full(story)
        written = next(at for at, step in enumerate(steps) if " write " in step.name)
        sent = next(at for at, step in enumerate(steps) if step.name == "upstream send")
        unsent = {step.number for step in steps[written:sent]}
        before_sending = {step.number for step in steps[: sent + 1]}

        def pause(stage: Stage, step: Step, _how: str) -> tuple[str | None, list[str]]:
            name, wrong, records, taken = stage.paused_at(story, step, send_within_s + 0.2)
            # Another step of that name may have got the number: where the start took fewer steps, all come earlier.
            if (step.number in before_sending) != ("upstream send" not in [before.name for before in taken[:-1]]):
                return None, wrong
            first = records.rows[0].attempts[0]
            if name == step.name and step.number in unsent and first.evidence != "not_sent":
                wrong.append(f"its first attempt was {first}")
            return name, wrong

        points = [(step, how) for step, how in points_of(steps, every_write=SOAK) if how == BEFORE]
        wrong = play(pause, points, on)
    print(f"paused: {len(points)} points, of {len(unsent)} steps between the intent and the first byte")  # noqa: T201  # the figures
    assert unsent
    assert not wrong, "\n".join(wrong)


def test_several_orders_at_once_stopped_at_random_steps(nursery: Nursery, home: Home, tmp_path: Path) -> None:
    """Which step has which number is left to chance here, as it is between orders that run side by side."""
    story = Story(act=ask_side_by_side, mixed=True)
    chance = random.Random(SEED)  # noqa: S311  # no secret: where to stop

    with stages(nursery, home, tmp_path) as on:
        steps = on[0].told_in_full(story)
        drawn = [(chance.choice(steps), chance.choice((BEFORE, MIDDLE, AFTER))) for _ in range(RANDOM_POINTS)]
        wrong = play(lambda stage, step, how: stage.stopped_at(story, step, how), drawn, on)
    print(f"side by side: {len(drawn)} points of {len(steps)} steps")  # noqa: T201  # the figures
    assert not wrong, f"seed {SEED}: " + "\n".join(wrong)


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """`before` makes what it is given for, and returns its arguments. `done` counts in the ledger what it does, and
    `told` the rows of the audit log that tell of it.
    """

    before: Callable[[Life], Sequence[str]]
    done: str
    told: str


def a_second_key(*verb: str) -> Callable[[Life], Sequence[str]]:
    def before(life: Life) -> Sequence[str]:
        with life.administration() as admin:
            return ("key", *verb, "team", admin.add_key("team", Secret(SECOND_KEY)).key_id)

    return before


def a_file_of_tenants(life: Life) -> Sequence[str]:
    tenants = "\n".join(f"  - {{name: tenant-{number}, team: another}}" for number in range(3))
    (life.folder / "tenants.yaml").write_text(f"teams:\n  - name: another\ntenants:\n{tenants}\n")
    return ("apply", "tenants.yaml")


COMMANDS: Final[dict[str, Command]] = {
    "team add": Command(
        before=lambda _: ("team", "add", "another"), done="SELECT count(*) FROM teams", told="team add"
    ),
    "token issue": Command(
        before=lambda _: ("token", "issue", "shop"), done="SELECT count(*) FROM tokens", told="token issue"
    ),
    "tenant suspend": Command(
        before=lambda _: ("tenant", "suspend", "shop"),
        done="SELECT count(*) FROM tenants WHERE state = 'suspended'",
        told="tenant suspend",
    ),
    "tenant remove": Command(
        before=lambda _: ("tenant", "remove", "shop"),
        done="SELECT count(*) FROM removed_tenants",
        told="tenant remove",
    ),
    "key verify": Command(
        before=a_second_key("verify"),
        done="SELECT count(*) FROM upstream_keys WHERE verified_ms IS NOT NULL",
        told="key verify",
    ),
    "key activate": Command(
        before=a_second_key("activate"),
        done="SELECT count(*) FROM upstream_keys WHERE state = 'retiring'",
        told="key activate",
    ),
    "key revoke": Command(
        before=a_second_key("revoke"),
        done="SELECT count(*) FROM upstream_keys WHERE state = 'revoked'",
        told="key revoke",
    ),
    "apply": Command(
        before=a_file_of_tenants,
        done="SELECT (SELECT count(*) FROM teams) + (SELECT count(*) FROM tenants)",
        told="% add",
    ),
    "db backup": Command(before=lambda _: ("db", "backup", "copy.db"), done="SELECT 0", told="-"),
}
OFTEN: Final = {"token issue", "key verify"}
"""What may be given again, and then is done again."""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_stopped_at_every_step(name: str, nursery: Nursery, home: Home, tmp_path: Path) -> None:
    """It has happened, with its rows in the audit log, or it has not; the ledger is whole, and the command can be given
    again.
    """
    command = COMMANDS[name]

    def counts(life: Life) -> tuple[int, int]:
        told = "SELECT count(*) FROM audit WHERE action LIKE ?"
        return count_of(life.ledger, command.done), count_of(life.ledger, told, command.told)

    def since(life: Life, before: tuple[int, int]) -> tuple[int, int]:
        done, told = counts(life)
        return done - before[0], told - before[1]

    def stop(stage: Stage, step: Step, how: str) -> tuple[str | None, list[str]]:
        with stage.life() as life:
            placed_before(life)
            args = command.before(life)
            before = counts(life)
            life.command(*args, crash_at=step.number, how=how)
            stopped, done = life.steps(), since(life, before)
            wrong = [] if done in ((0, 0), whole) else [f"it was done, and told, {done} times"]
            if life.command("db", "check"):
                wrong.append(f"the ledger is not whole: {life.said()}")
            if life.command(*args) not in (0, REFUSED):
                wrong.append(f"it cannot be given again: {life.said()}")
            if name not in OFTEN and (done := since(life, before)) != whole:
                wrong.append(f"given again, it was done, and told, {done} times")
            wrong += audit_log_broken(life.ledger, vault_of(life.folder))
            return (stopped[-1].name if len(stopped) == step.number else None), wrong

    with stages(nursery, home, tmp_path) as on:
        with on[0].life() as life:
            placed_before(life)
            args = command.before(life)
            first = counts(life)
            assert life.command(*args, crash_at=0) == 0, life.said()
            steps, whole = life.steps(), since(life, first)
            assert whole[0] == whole[1] and (whole[0] or name == "db backup"), whole
        wrong = play(stop, points_of(steps, every_write=SOAK), on)
    print(f"{name}: {len(steps)} steps: {many(steps)}")  # noqa: T201  # the figures
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("there", [True, False], ids=["placed", "not placed"])
def test_settling_by_hand_stopped_at_every_step(there: bool, nursery: Nursery, home: Home, tmp_path: Path) -> None:
    """An operator's word and its audit row are there together or not at all, and the word is given once."""

    def unknown(life: Life) -> list[str]:
        life.sandbox.set_fault("place_then_reset" if there else "reset_after_read")
        life.start()
        ask(life)
        life.run.kill()
        (order,) = rows_of(life.ledger)
        life.resolved.add(order.order_id)
        how = ["--placed", life.sandbox.orders[0].order_id] if there else ["--not-placed"]
        return ["orders", "resolve", order.order_id, *how, "--reason", "OfferGrid said so by telephone"]

    def stop(stage: Stage, step: Step, how: str) -> tuple[str | None, list[str]]:
        with stage.life() as life:
            args = unknown(life)
            life.command(*args, crash_at=step.number, how=how)
            stopped, (order,) = life.steps(), rows_of(life.ledger)
            rows = audited(life.ledger, order.order_id)
            wrong = (
                [] if rows == (order.outcome != "unknown") else [f"{rows} audit rows, and it is {order.outcome}"]
            )
            if life.command(*args) != (0 if order.outcome == "unknown" else REFUSED):
                wrong.append(f"given again, it said {life.said()}")
            wrong += [*life.heal(), *life.broken()]
            if (rows := audited(life.ledger, order.order_id)) != 1:
                wrong.append(f"{rows} audit rows in the end")
            return (stopped[-1].name if len(stopped) == step.number else None), wrong

    with stages(nursery, home, tmp_path) as on:
        with on[0].life() as life:
            assert life.command(*unknown(life), crash_at=0) == 0, life.said()
            steps = life.steps()
        wrong = play(stop, points_of(steps, every_write=SOAK), on)
    print(f"settling by hand: {len(steps)} steps: {many(steps)}")  # noqa: T201  # the figures
    assert not wrong, "\n".join(wrong)


ROTATE: Final = ("secrets", "rotate", "--drop-old")


def goes_on(life: Life, mark: str) -> list[str]:
    """What was placed is replayed, a new order goes out with the team's key, and every record opens."""
    before = len(life.sandbox.orders)
    if not life.start():
        return [f"it does not start: {life.run.log()}"]
    answers = [life.ask("mark", KEY), life.ask(mark, f"{KEY}-{mark}")]
    life.run.kill()
    statuses = [answer and answer.status for answer in answers]
    wrong = [] if statuses == [201, 201] else [f"they were told {statuses}"]
    if len(life.sandbox.orders) != before + 1:
        wrong.append(f"OfferGrid took {len(life.sandbox.orders) - before}")
    return wrong


def test_rotating_stopped_at_every_step(nursery: Nursery, home: Home, tmp_path: Path) -> None:
    """Everything can be read, whatever was cut off, and the next rotation leaves nothing of the one before."""

    def stop(stage: Stage, step: Step, how: str) -> tuple[str | None, list[str]]:
        with stage.life() as life:
            placed_before(life)
            life.command(*ROTATE, crash_at=step.number, how=how)
            stopped = life.steps()
            wrong = goes_on(life, "after")
            if life.command(*ROTATE):
                wrong.append(f"it cannot be given again: {life.said()}")
            if life.command("db", "check") or life.command("audit", "verify"):
                wrong.append(f"the ledger is not whole: {life.said()}")
            wrong += [f"{left.name} was left" for left in (life.folder / "var").glob(".master.key*")]
            if (life.folder / "var/master.key").read_text().count("\n") != 3:
                wrong.append("the key file holds more than one version")
            wrong += [*goes_on(life, "finally"), *life.broken()]
            return (stopped[-1].name if len(stopped) == step.number else None), wrong

    with stages(nursery, home, tmp_path) as on:
        with on[0].life() as life:
            placed_before(life)
            assert life.command(*ROTATE, crash_at=0) == 0, life.said()
            steps = life.steps()
        wrong = play(stop, points_of(steps, every_write=SOAK), on)
    print(f"rotating: {len(steps)} steps: {many(steps)}")  # noqa: T201  # the figures
    assert not wrong, "\n".join(wrong)


RESTORE: Final = ("db", "restore", "copy.db")
REJOIN: Final = ("db", "rejoin")


def back_to_the_backup(life: Life) -> None:
    """Orders were placed that the backup knows nothing of."""
    assert life.command("db", "backup", "copy.db") == 0, life.said()
    life.start()
    ask(life)
    life.ask("second")
    life.run.kill()


def nothing_is_denied(life: Life, *, settled: bool) -> list[str]:
    """What the tenant asks for again is there and not sent once more; or it is refused, where not all is `settled`."""
    placed = [(answer.mark, answer.order_id) for answer in life.told if answer.final][:2]
    before = [order.order_id for order in life.sandbox.orders]
    life.start()
    answers = [life.ask(mark, key) for mark, key in list(life.wanted.items())]
    life.run.kill()
    wrong = [] if [order.order_id for order in life.sandbox.orders] == before else ["something was sent again"]
    for (mark, order_id), answer in zip(placed, answers, strict=True):
        if answer and (answer.status, answer.order_id) == (201, order_id):
            continue
        if settled or not answer or (answer.status, answer.outcome) != (503, "not_placed"):
            wrong.append(f"{mark} was told {answer and (answer.status, answer.outcome, answer.order_id)}")
    return wrong


@pytest.mark.parametrize("args", [RESTORE, REJOIN], ids=["restore", "rejoin"])
def test_coming_back_from_a_backup_stopped_on_the_way(
    args: tuple[str, ...], nursery: Nursery, home: Home, tmp_path: Path
) -> None:
    """At every moment the ledger is the old one, or in quarantine, or one that knows what OfferGrid has."""
    settings: dict[str, Any] = {"reconcile__settle_after_s": 0.2}

    def before(life: Life) -> None:
        back_to_the_backup(life)
        if args == REJOIN:
            assert life.command(*RESTORE) == 0, life.said()

    def stop(stage: Stage, step: Step, how: str) -> tuple[str | None, list[str]]:
        with stage.life() as life:
            before(life)
            life.command(*args, crash_at=step.number, how=how, **settings)
            stopped = life.steps()
            wrong = nothing_is_denied(life, settled=False)
            for again in (RESTORE, REJOIN) if args == RESTORE else (REJOIN,):
                if life.command(*again, **settings):
                    wrong.append(f"it cannot be given again: {life.said()}")
            wrong += nothing_is_denied(life, settled=True)
            wrong += audit_log_broken(life.ledger, vault_of(life.folder))
            told = count_of(life.ledger, "SELECT count(*) FROM audit WHERE action = 'db rejoin'")
            if told != 1:
                wrong.append(f"the audit log tells of {told} rejoins")
            if life.command("db", "check"):
                wrong.append(f"the ledger is not whole: {life.said()}")
            return (stopped[-1].name if len(stopped) == step.number else None), wrong

    with stages(nursery, home, tmp_path) as on:
        with on[0].life() as life:
            before(life)
            assert life.command(*args, crash_at=0, **settings) == 0, life.said()
            steps = life.steps()
        points = list(points_of(steps, every_write=SOAK))
        if not SOAK:  # each takes eight processes, and what the others see is done last
            points = points[-BACKUP_POINTS:]
        wrong = play(stop, points, on)
    print(f"{args[1]}: {len(points)} points of {len(steps)} steps: {many(steps)}")  # noqa: T201  # the figures
    assert not wrong, "\n".join(wrong)


def test_the_very_first_start_stopped_at_every_step(nursery: Nursery, tmp_path: Path) -> None:
    """The files are made, the schema is, and the master key fits: at the second start if not at the first."""
    nowhere = Home(folder=tmp_path / "nowhere", token="")

    def stop(stage: Stage, step: Step, how: str) -> tuple[str | None, list[str]]:
        with stage.life() as life:
            life.start(step.number, how)
            life.run.kill()
            stopped = life.steps()
            wrong = [] if life.start() else [f"it does not start again: {life.run.log()}"]
            life.run.kill()
            if life.command("db", "check"):
                wrong.append(f"the ledger is not whole: {life.said()}")
            return (stopped[-1].name if len(stopped) == step.number else None), wrong

    with stages(nursery, nowhere, tmp_path) as on:
        with on[0].life() as life:
            assert life.start(0), life.run.log()
            steps = life.steps()
        wrong = play(stop, points_of(steps, every_write=SOAK), on)
    print(f"the very first start: {len(steps)} steps: {many(steps)}")  # noqa: T201  # the figures
    assert not wrong, "\n".join(wrong)
