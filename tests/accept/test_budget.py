"""The budget, seen by tenants: what they are told when it is short, and whose part is whose."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from gateway.core.budget import MINUTE_MS
from tests.accept.world import World, a_world, about_order, wait_until
from tests.support.stack import an_order

LIMITS: Final = {
    "budget__per_minute": 10, "budget__per_hour": 1000, "budget__reserved_per_minute": 2,
    "admission__max_wait_s": 0.2,
}  # fmt: skip
SHARE: Final = 8


@pytest.fixture
def short_world() -> Iterator[World]:
    with a_world(**LIMITS) as world:
        world.begin()
        yield world


def test_429_budget_exhausted(short_world: World) -> None:
    world = short_world
    began = time.monotonic()
    for placed in range(SHARE):
        answer = world.order()
        assert answer.status_code == 201
        assert answer.headers["ratelimit-policy"] == '"minute";q=10;w=60, "hour";q=1000;w=3600'
        left = re.fullmatch(r'"minute";r=(\d+);t=(\d+), "hour";r=\d+;t=\d+', answer.headers["ratelimit"])
        assert left is not None
        assert int(left[1]) == SHARE - placed - 1
        assert 0 < int(left[2]) <= MINUTE_MS // 1000
    refused = world.order("again", notes="same")
    about_order(world, refused, 429, "budget-exhausted", "not_placed", known=False)
    passed = time.monotonic() - began
    # True to the window: when the first of the calls counts no more.
    assert MINUTE_MS / 1000 - passed - 1 <= int(refused.headers["retry-after"]) <= MINUTE_MS / 1000
    assert '"minute";r=0;t=' in refused.headers["ratelimit"]
    assert len(world.calls) == SHARE, "nothing was sent of it"
    assert world.admin("GET", "/metrics").text.count('ordergate_budget_rejections_total{reason="minute"') == 1


def test_a_part_is_its_tenants_for_as_long_as_it_may_want_it(short_world: World) -> None:
    world = short_world
    modest = world.token_of("modest")
    assert world.order(token=modest).status_code == 201
    with ThreadPoolExecutor(8) as pool:  # the other tenant wants all that there is, and more
        flood = [answer.status_code for answer in pool.map(lambda _: world.order(), range(3 * SHARE))]
    assert set(flood) == {201, 429}
    assert flood.count(201) == SHARE - 2, "half of the share is guaranteed, and half of that to each"
    assert world.order(token=modest).status_code == 201, "within its part it loses nothing"
    answer = world.order(token=modest)
    about_order(world, answer, 429, "budget-exhausted", "not_placed", known=False, token=modest)
    assert len(world.placed) == SHARE


def test_a_kill_forgets_no_call(short_world: World) -> None:
    world = short_world
    for _ in range(SHARE):
        assert world.order().status_code == 201
    world.stack.process.kill()
    world.stack.start()
    with world.stack.client() as client:
        refused = client.post("/orders", json=an_order())
    assert (refused.status_code, refused.json()["type"]) == (429, "/problems/budget-exhausted")
    assert len(world.placed) == SHARE


def test_who_prefers_to_wait_waits_for_what_comes_back(short_world: World) -> None:
    world = short_world
    world.sandbox.set_fault("status", code=429, retry_after=2, count=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(world.order)
        wait_until(lambda: len(world.calls) == 1, "the first one at OfferGrid, which asks to be left alone")
        hasty = world.order()
        about_order(world, hasty, 429, "upstream-throttled", "not_placed", known=False)
        patient = world.ask("POST", "/orders", json=an_order(notes="patient"), headers={"prefer": "wait=20"})
        assert (patient.status_code, first.result().status_code) == (201, 201)
    throttled, *later = world.calls
    for call in later:
        assert call.received.monotonic_ns - throttled.received.monotonic_ns >= 2_000_000_000
    assert len(world.placed) == len(later) == 2
