"""`orders reconcile` and `orders resolve`: through the real program, with and without a gateway beside it."""

import json
from collections.abc import Iterator

import pytest

from tests.accept.world import World, a_world
from tests.cli.conftest import Program

SOON = {"reconcile__settle_after_s": 0.5, "reconcile__interval_s": 0.3, "budget__reserved_per_minute": 1000}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A gateway that looks for nothing by itself."""
    with a_world() as found:
        yield found


@pytest.fixture
def program(world: World) -> Program:
    return Program(world.stack.folder, world.stack.environ)


def _unknown(world: World, fault: str) -> str:
    """An order that nobody is sure of, and whether OfferGrid has it."""
    world.sandbox.set_fault(fault)
    answer = world.order()
    assert answer.json()["outcome"] == "unknown"
    order_id: str = answer.json()["orderId"]
    return order_id


def test_what_offergrid_lists_is_found_beside_a_running_gateway(world: World, program: Program) -> None:
    order_id = _unknown(world, "place_then_reset")
    done = program("orders", "reconcile", "--once", "--json").value
    assert (done["unknown"], done["found"], done["failedLooks"], done["stillUnknown"]) == (1, 1, 0, 0)
    assert world.shown(order_id)["outcome"] == "placed"


def test_a_listing_that_cannot_be_read_is_a_failure_and_settles_nothing(world: World, program: Program) -> None:
    order_id = _unknown(world, "place_then_reset")
    world.sandbox.set_fault("status", code=500, match={"method": "GET"})
    done = program("orders", "reconcile", "--once", "--json")
    assert (done.status, json.loads(done.out)["failedLooks"], json.loads(done.out)["stillUnknown"]) == (1, 1, 1)
    assert world.shown(order_id)["outcome"] == "unknown"
    world.sandbox.clear_faults()
    assert program("orders", "reconcile", "--once").status == 0


def test_without_a_gateway_it_stays_until_absence_is_proven() -> None:
    with a_world(**SOON) as world:
        program = Program(world.stack.folder, world.stack.environ)
        assert world.order().status_code == 201
        world.sandbox.set_fault("reset_after_read")
        order_id = world.order().json()["orderId"]
        world.stack.process.kill()
        done = program("orders", "reconcile", "--json").value
        assert done["stillUnknown"] == 0
        assert program("orders", "show", order_id, "--json").value["outcome"] == "not_placed"
        world.stack.start()


def test_resolve_settles_what_is_unknown_and_nothing_else(world: World, program: Program) -> None:
    there, not_there = _unknown(world, "place_then_reset"), _unknown(world, "reset_after_read")
    upstream_id = next(o.order_id for o in world.sandbox.orders if o.data["metadata"]["gatewayOrderId"] == there)
    done = program("orders", "resolve", there, "--placed", upstream_id, "--reason", "support said so", "--json")
    assert (done.value["outcome"], done.value["upstreamOrderId"]) == ("placed", upstream_id)
    assert world.shown(there)["response"] == {"orderId": upstream_id}
    assert program("orders", "resolve", not_there, "--not-placed", "--reason", "support said so").status == 0
    assert world.shown(not_there)["outcome"] == "not_placed"
    for order_id in (there, not_there, "nobody"):
        again = program("orders", "resolve", order_id, "--not-placed", "--reason", "once more")
        assert (again.status, again.out) == (4, ""), again
    third = _unknown(world, "reset_after_read")
    taken = program("orders", "resolve", third, "--placed", upstream_id, "--reason", "a slip")
    assert taken.status == 4 and "another order" in taken.err
    assert program("orders", "resolve", third, "--not-placed", "--reason", "x").status == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--reason", "neither"),
        ("--placed", "up-1", "--not-placed", "--reason", "both"),
        ("--not-placed",),
        ("--not-placed", "--reason", "  "),
        ("--not-placed", "--reason", "two\nlines"),
        ("--placed", "", "--reason", "no id"),
    ],
)
def test_resolve_wants_one_word_and_a_reason(program: Program, arguments: tuple[str, ...]) -> None:
    assert program.within("orders", "resolve", "0", *arguments).status == 2
