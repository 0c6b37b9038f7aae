"""The breaker through the real gateway: an OfferGrid that is gone is left alone, and found again by a read."""

from tests.accept.world import World, a_world, about_order, wait_until


def _state(world: World) -> float:
    metrics = world.admin("GET", "/metrics", token="").text
    (line,) = (line for line in metrics.splitlines() if line.startswith("ordergate_breaker_state "))
    return float(line.split()[1])


def test_an_offergrid_that_fails_is_left_alone_and_found_again() -> None:
    with a_world(upstream__breaker_failures=2, upstream__breaker_open_s=1) as world:
        known = {"notes": "before"}
        assert world.order("before", **known).status_code == 201
        world.sandbox.set_fault("place_then_500", count=2)
        for key in ("a", "b"):
            assert world.order(key).json()["outcome"] == "unknown"
        calls = len(world.calls)
        left_alone = world.order("c", notes="c")
        about_order(world, left_alone, 503, "upstream-unavailable", "not_placed", known=False)
        assert world.order("before", **known).headers["idempotent-replayed"] == "true"
        assert len(world.calls) == calls
        assert _state(world) == 2
        world.sandbox.clear_faults()
        wait_until(lambda: world.order("c", notes="c").status_code == 201, "the breaker to close")
        assert _state(world) == 0
        reads = [call for call in world.calls[calls:] if call.method == "GET"]
        assert len(reads) == 1, "one read, and not an order, found out"
