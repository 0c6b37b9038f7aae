"""The scenes of the upstream's faults: each one gateway a worker, used by many cases, each of which must leave it
whole."""

from collections.abc import Iterator

import pytest

from tests.support.scene import Scene, a_scene, for_one_case


@pytest.fixture(scope="session")
def direct_scene() -> Iterator[Scene]:
    with a_scene(
        direct=True,
        upstream__timeout_s=5,
        # A tenth of what is usual, as the pauses of the one test that needs it.
        upstream__keepalive_idle_s=0.3,
    ) as scene:
        yield scene


@pytest.fixture(scope="session")
def front_scene() -> Iterator[Scene]:
    with a_scene(
        upstream__timeout_s=5,
        upstream__connect_timeout_s=0.5,
        # No connection ends of itself: where one ends, there was a reason.
        upstream__keepalive_idle_s=86_400,
    ) as scene:
        yield scene


@pytest.fixture(scope="session")
def hasty_scene() -> Iterator[Scene]:
    with a_scene(receive_bytes=4096, upstream__timeout_s=1, upstream__connect_timeout_s=0.3) as scene:
        yield scene


@pytest.fixture
def direct(direct_scene: Scene) -> Iterator[Scene]:
    """The sandbox itself behind the gateway; 5 s for an order, 0.3 s idle."""
    yield from for_one_case(direct_scene)


@pytest.fixture
def road(front_scene: Scene) -> Iterator[Scene]:
    """A front between gateway and sandbox; 5 s for an order, 0.5 s to connect, any time idle."""
    yield from for_one_case(front_scene)


@pytest.fixture
def hasty(hasty_scene: Scene) -> Iterator[Scene]:
    """A front with narrow buffers between gateway and sandbox; 1 s for an order, 0.3 s to connect."""
    yield from for_one_case(hasty_scene)
