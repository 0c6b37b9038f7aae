"""Row 79: the settings file changes while the gateway runs, for better or worse."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from tests.accept.metrics import series, total
from tests.accept.world import World, a_world, problem, wait_until
from tests.faults.matrix import row

GOOD: Final = "idempotency:\n  implicit_window_s: 300\nlog:\n  level: info\n"
OTHER: Final = GOOD.replace("300", "0")
"""The same body is another order as soon as the first one is settled."""

BAD: Final = {
    "a value out of range": GOOD.replace("300", "-1"),
    "a setting that does not exist": GOOD.replace("implicit_window_s", "implicit_windows"),
    "no YAML": "idempotency: [",
    "half of it": OTHER[: OTHER.index("_window")],
}


@pytest.fixture
def world() -> Iterator[World]:
    """A gateway with a settings file, which `file_of` names."""

    def beside(folder: Path) -> dict[str, str]:
        (folder / "settings.yaml").write_text(GOOD)
        return {"ORDERGATE_CONFIG": str(folder / "settings.yaml")}

    with a_world(beside=beside, upstream__max_in_flight=1, admission__max_wait_s=10) as world:
        yield world


def file_of(world: World) -> Path:
    return world.stack.folder / "settings.yaml"


def reloads(world: World, result: str) -> float:
    return total(series(world), "ordergate_config_reloads_total", result=result)


def replays(world: World, notes: str) -> bool:
    """Whether an order without a key, sent twice, is one order."""
    first, again = world.order(notes=notes), world.order(notes=notes)
    assert (first.status_code, again.status_code) == (201, 201)
    one = "idempotent-replayed" in again.headers
    assert one == (first.headers["ordergate-order-id"] == again.headers["ordergate-order-id"])
    return one


def said(world: World) -> list[dict[str, Any]]:
    return [line for line in world.stack.process.log if line["event"] == "reload"]


@row(
    79,
    fault="the settings file is changed to a bad one: out of range, unknown, no YAML, half of it",
    answer="201; placed",
    holds="the settings before go on; a line in the log says what is wrong and where, and a metric counts it; a good"
    " file acts soon after",
)
@pytest.mark.parametrize("name", BAD)
def test_row_79_a_bad_file_changes_nothing(world: World, name: str) -> None:
    read_at = total(series(world), "ordergate_config_last_reload_success_timestamp_seconds")
    file_of(world).write_text(BAD[name])
    wait_until(lambda: reloads(world, "failure") == 1, "the bad file to be refused")
    assert replays(world, "while it is bad")
    (line,) = said(world)
    assert line["level"] == "error"
    assert str(file_of(world)) in line["error"]
    assert total(series(world), "ordergate_config_last_reload_success_timestamp_seconds") == read_at
    file_of(world).write_text(OTHER)
    wait_until(lambda: reloads(world, "success") == 1, "the good file to be read")
    assert said(world)[-1]["settings"] == "idempotency.implicit_window_s"
    assert not replays(world, "once it is good")
    assert total(series(world), "ordergate_config_last_reload_success_timestamp_seconds") > read_at


@row(79, part="the file is gone", holds="the settings before go on, and those of the file once it is there again")
def test_row_79_a_vanished_file_changes_nothing(world: World) -> None:
    file_of(world).unlink()
    wait_until(lambda: reloads(world, "failure") == 1, "the loss to be seen")
    assert "is not there" in said(world)[-1]["error"]
    assert replays(world, "while it is gone")
    file_of(world).write_text(OTHER)
    wait_until(lambda: reloads(world, "success") == 1, "the file to be read again")
    assert not replays(world, "once it is back")


@row(
    79,
    part="SIGHUP",
    fault="with settings that only a restart can change among them",
    holds="what can change does; what cannot stays as it is, and is named",
)
def test_row_79_what_only_a_restart_changes_is_said(world: World) -> None:
    file_of(world).write_text(OTHER.replace("info", "warning") + "upstream:\n  timeout_s: 9\n")
    world.stack.process.signal(signal.SIGHUP)
    wait_until(lambda: reloads(world, "success") >= 1, "the file to be read")
    assert (said(world)[0]["level"], said(world)[0]["settings"]) == ("warning", "upstream.timeout_s")
    assert not replays(world, "at once")
    count = len(world.stack.process.log)
    assert world.order().status_code == 201
    assert not [line for line in world.stack.process.log[count:] if line["level"] == "info"]


def test_how_many_may_wait_changes_for_those_who_come(world: World) -> None:
    file_of(world).write_text(GOOD + "admission:\n  max_waiting: 0\n")
    wait_until(lambda: reloads(world, "success") == 1, "the file to be read")
    world.sandbox.set_fault("slow", after_s=60)
    with ThreadPoolExecutor(1) as tenant:
        first = tenant.submit(world.order)
        wait_until(lambda: len(world.placed) == 1, "the only place to be taken")
        problem(world.order(), 503, "overloaded")
        world.sandbox.clear_faults()
        assert first.result().status_code == 201


def test_a_hangup_without_a_change_changes_nothing(world: World) -> None:
    """SIGHUP without a change reads the same again, and nothing differs."""
    world.stack.process.signal(signal.SIGHUP)
    wait_until(lambda: reloads(world, "success") == 1, "the file to be read")
    assert (said(world)[-1]["count"], said(world)[-1]["settings"]) == (0, "")
    assert replays(world, "as before")
