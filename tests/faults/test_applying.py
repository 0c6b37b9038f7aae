"""Applying a file of teams and tenants: stopped at every step that it does to the world, and several at once."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from gateway.broker.administration import Administration
from gateway.core.tenancy import tenant_facts
from gateway.settings import load_settings
from gateway.wiring import open_administration
from tests.crash.nursery_client import Nursery
from tests.crash.points import environ_of
from tests.crash.steps import AFTER, BEFORE, MIDDLE
from tests.faults.matrix import row

AT_ONCE: Final = 4
KILLED: Final = -9
NOWHERE: Final = "http://127.0.0.1:9"
THERE: Final = """\
teams: [{name: sales}, {name: old}]
tenants:
  - {name: shop, team: sales}
  - {name: till, team: sales, state: suspended}
  - {name: gone, team: old}
"""
WANTED: Final = """\
teams: [{name: sales}, {name: lab}]
tenants:
  - {name: shop, team: sales, state: suspended}
  - {name: till, team: sales, state: active, metadata: {defaults: {weights: [1, 2.50]}}}
  - {name: probe, team: lab, guaranteed_per_minute: 7}
"""
CHANGES: Final = 6

State = dict[str, Any]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger holds: teams and tenants, and the changes that its audit log tells, oldest first."""

    state: State
    changes: list[dict[str, Any]]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as running:
        yield running


@pytest.fixture(scope="module")
def home(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ledger that is as THERE says; copied for each case."""
    folder = tmp_path_factory.mktemp("home")
    for name, text in (("there.yaml", THERE), ("wanted.yaml", WANTED)):
        (folder / name).write_text(text)
    assert apply(nursery, folder, "there.yaml")[0] == 0
    return folder


def apply(nursery: Nursery, folder: Path, *args: str, **counted: str) -> tuple[int, str]:
    """Its exit status, and what it said."""
    run = nursery.run(["apply", *args], folder, {**environ_of(folder, NOWHERE), **counted})
    return run.end(), run.said()


def found(folder: Path) -> Found:
    with open_administration(load_settings(None, environ_of(folder, NOWHERE))) as admin:
        assert admin.verify_audit().broken is None
        return Found(state=state_of(admin), changes=changes_of(admin))


def state_of(admin: Administration) -> State:
    facts = {tenant.name: json.loads(msgspec.json.encode(tenant_facts(tenant))) for tenant in admin.tenants()}
    return {"teams": sorted(team.name for team in admin.teams()), "tenants": facts}


def changes_of(admin: Administration) -> list[dict[str, Any]]:
    rows = reversed(admin.audited(limit=10_000))
    return [
        {"action": row.action.decode(), "subject": row.subject.decode(), "change": json.loads(row.change)}
        for row in rows
    ]


def replayed(changes: Sequence[Mapping[str, Any]]) -> State:
    """What must be there if the audit log tells all that was done, and nothing else."""
    state: State = {"teams": [], "tenants": {}}
    for told in changes:
        kind, _, what = told["action"].partition(" ")
        name, before, after = told["subject"], told["change"]["from"], told["change"]["to"]
        if kind == "team":
            state["teams"] = sorted({*state["teams"], name} if what == "add" else {*state["teams"]} - {name})
        elif what == "add":
            assert name not in state["tenants"]
            state["tenants"][name] = dict(after)
        elif what == "remove":
            assert state["tenants"].pop(name) | {"tokens": []} == before
        else:
            assert {part: state["tenants"][name][part] for part in before} == before
            state["tenants"][name] |= after
    return state


def points(steps: Sequence[str]) -> Iterator[tuple[int, str]]:
    for number, name in enumerate(steps, 1):
        yield number, BEFORE
        if " write " in name:
            yield number, MIDDLE
    yield len(steps), AFTER


@row(
    86,
    fault="apply is killed, before, in the middle of and after every write, sync and other step of it",
    answer="all of the file's changes are there, or none; given again, it does the rest",
    holds="the audit log tells exactly what was changed, and its chain is whole",
)
def test_row_86_apply_is_killed_at_every_step(nursery: Nursery, home: Path, tmp_path: Path) -> None:
    def applied(name: str, **counted: str) -> tuple[Path, int]:
        folder = tmp_path / name
        shutil.copytree(home, folder)
        return folder, apply(
            nursery, folder, "wanted.yaml", "--prune", CRASH_STEPS=str(folder / "steps"), **counted
        )[0]

    none = found(home)
    folder, status = applied("whole", CRASH_AT="0")
    assert status == 0
    every = found(folder)
    assert len(every.changes) == len(none.changes) + CHANGES
    assert (replayed(none.changes), replayed(every.changes)) == (none.state, every.state)
    steps = [line.partition(" ")[2] for line in (folder / "steps").read_text().splitlines()]

    def stopped(point: tuple[int, str]) -> str:
        number, how = point
        folder, status = applied(f"{number}-{how}", CRASH_AT=str(number), CRASH_HOW=how)
        assert status == KILLED, f"not stopped {how} step {number}, {steps[number - 1]}: {status}"
        left = found(folder)
        assert left in (none, every), f"stopped {how} step {number}, {steps[number - 1]}: {left}"
        status, said = apply(nursery, folder, "wanted.yaml", "--prune")
        assert (status, found(folder).state) == (0, every.state), said
        assert len(found(folder).changes) == len(every.changes)
        shutil.rmtree(folder)
        return "every" if left == every else "none"

    with ThreadPoolExecutor(AT_ONCE) as threads:
        seen = list(threads.map(stopped, points(steps)))
    print(f"apply: {len(seen)} points of {len(steps)} steps, {seen.count('every')} with every change")  # noqa: T201 - the figures
    assert set(seen) == {"none", "every"}
    assert seen == sorted(seen, key=("none", "every").index), "what is durable stays so"


@row(
    86,
    part="several at once: the same file, and files that disagree",
    answer="one after the other; who comes late has nothing to do, or does it again his own way",
    holds="every change stands in the audit log once, as it was told to whoever made it, and replayed it gives what is "
    "there",
)
@pytest.mark.parametrize("pruned", [False, True], ids=["added to", "pruned"])
def test_row_86_several_applies_at_once(nursery: Nursery, home: Path, tmp_path: Path, pruned: bool) -> None:
    folder = tmp_path / "several"
    shutil.copytree(home, folder)
    files = []
    for number in range(3):
        names = [f"t{number}-{one}" for one in range(20)]
        shared = f"{{name: shop, team: sales, guaranteed_per_minute: {number}}}"
        own = ", ".join(f"{{name: {name}, team: sales}}" for name in names)
        files.append(f"{number}.yaml")
        (folder / files[-1]).write_text(f"teams: [{{name: sales}}]\ntenants: [{shared}, {own}]\n")
    before = found(folder)
    prune = ["--prune"] if pruned else []
    with ThreadPoolExecutor(2 * len(files)) as threads:
        runs = list(threads.map(partial(apply_json, nursery, folder, prune), files * 2))
    after = found(folder)
    assert replayed(after.changes) == after.state
    new = after.changes[len(before.changes) :]
    pieces = [changes for changes in runs if changes]
    assert sorted(map(json.dumps, new)) == sorted(json.dumps(change) for changes in pieces for change in changes)
    while new:  # each run's changes stand together, in their order
        # One may begin as another does, and end sooner.
        piece = max((changes for changes in pieces if new[: len(changes)] == changes), key=len)
        pieces.remove(piece)
        new = new[len(piece) :]
    assert not pieces
    own_tenants = {name for name in after.state["tenants"] if name.startswith("t") and name != "till"}
    assert len(own_tenants) == (20 if pruned else 60)


def apply_json(nursery: Nursery, folder: Path, prune: Sequence[str], file: str) -> list[dict[str, Any]]:
    """The changes that it says it made."""
    status, said = apply(nursery, folder, file, "--json", *prune)
    assert status == 0, said
    changes: list[dict[str, Any]] = json.loads(said)["changes"]
    return changes
