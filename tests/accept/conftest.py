"""Two gateways a worker: one with settings that leave time, one that is short of everything."""

from collections.abc import Iterator

import pytest

from tests.accept.world import World, a_world, what_was_told_is_true


@pytest.fixture(scope="session")
def patient_world() -> Iterator[World]:
    with a_world(upstream__timeout_s=2.4, log__level="debug") as world:
        yield world


@pytest.fixture(scope="session")
def hasty_world() -> Iterator[World]:
    with a_world(
        upstream__timeout_s=0.8,
        upstream__connect_timeout_s=0.3,
        upstream__max_in_flight=1,
        admission__max_waiting=1,
        admission__max_wait_s=0.3,
        tenant_api__body_timeout_s=0.4,
    ) as world:
        yield world


@pytest.fixture
def world(patient_world: World) -> Iterator[World]:
    """A gateway with time: 2.4 s for an order."""
    yield from _for_one_test(patient_world)


@pytest.fixture
def hasty(hasty_world: World) -> Iterator[World]:
    """A gateway that is short of everything: 0.8 s for an order, 0.4 s for a body, one order in flight, one waiting."""
    yield from _for_one_test(hasty_world)


def _for_one_test(world: World) -> Iterator[World]:
    world.sandbox.clear_faults()
    world.begin()
    yield world
    world.sandbox.clear_faults()
    what_was_told_is_true(world)
