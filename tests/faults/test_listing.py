"""Listings that are late, short, broken or another account's: what is concluded from them, and what is not."""

import time
import uuid
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from tests.accept.world import World, a_world, a_world_apart, wait_until, what_was_told_is_true
from tests.faults.matrix import row
from tests.faults.seen import becomes, posts, taken, told_unknown
from tests.support.stack import UPSTREAM_KEY

SETTLE_S: Final = 0.5
OFTEN: Final = {
    "reconcile__interval_s": 0.1,
    "reconcile__settle_after_s": SETTLE_S,
    "budget__per_minute": 0,
    "budget__reserved_per_minute": 10_000,
    "upstream__max_listing_bytes": 1_000_000,
    "upstream__breaker_failures": 1_000_000,
}


@pytest.fixture(scope="module")
def the_world() -> Iterator[World]:
    """Its orders agree on both sides; what is done behind the gateway's back has a world of its own."""
    with a_world(**OFTEN) as world:
        yield world


@pytest.fixture
def world(the_world: World) -> Iterator[World]:
    """A team that has an order, which bears witness."""
    the_world.begin()
    assert the_world.order().status_code == 201
    yield the_world
    the_world.sandbox.clear_faults()
    what_was_told_is_true(the_world)


@pytest.fixture
def key() -> str:
    """An idempotency key, and the order's notes: no other order is like it."""
    return uuid.uuid4().hex


def looks(world: World) -> int:
    return sum(call.method == "GET" for call in world.sandbox.calls)


def metric(world: World, name: str) -> float:
    text = world.admin("GET", "/metrics").text
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name + " "))


def stays_unknown(world: World, order_id: str, *, for_s: float = 2 * SETTLE_S) -> None:
    """For longer than a proof takes, while it is looked for, nothing is concluded and nothing is sent."""
    until, before = time.monotonic() + for_s, looks(world)
    while time.monotonic() < until or looks(world) < before + 3:
        assert world.shown(order_id)["outcome"] == "unknown"
        time.sleep(0.02)
    assert len(posts(world)) == len({call.body for call in posts(world)})


def cut_off(world: World, key: str, *, taken_by_offergrid: bool) -> str:
    """An order whose connection broke; its id."""
    world.sandbox.set_fault("place_then_reset" if taken_by_offergrid else "reset_after_read")
    return told_unknown(world.order(key, notes=key))


def placed_once(world: World, key: str, order_id: str) -> None:
    """It is found, and replayed from then on."""
    found = becomes(world, order_id, "placed")
    assert taken(world, key) == [found["upstreamOrderId"]]
    again = world.order(key, notes=key)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert taken(world, key) == [found["upstreamOrderId"]]


def absent_then_placed(world: World, key: str, order_id: str) -> None:
    """Its absence is proven; sent again under its key it is placed, once, under the same order id."""
    assert becomes(world, order_id, "not_placed")["httpStatus"] == 502
    again = world.order(key, notes=key)
    assert (again.status_code, again.headers["ordergate-order-id"]) == (201, order_id)
    assert taken(world, key) == [again.json()["orderId"]]


@row(
    38,
    fault="OfferGrid acts after hanging up, but within settle_after_s",
    answer="502 outcome-unknown; unknown, then placed",
    holds="never not_placed; sent once",
)
def test_row_38_an_order_that_is_taken_late_is_found(world: World, key: str) -> None:
    world.sandbox.set_fault("place_late", after_s=0.6 * SETTLE_S)
    order_id = told_unknown(world.order(key, notes=key))
    placed_once(world, key, order_id)


LIES: Final[dict[str, dict[str, Any]]] = {
    "stale by 90 s": {"kind": "list_stale", "after_s": 90},
    "without metadata": {"kind": "list_drop_metadata"},
    "one page, unmarked": {"kind": "list_page", "size": 1},
    "one page, with a cursor that is no address": {"kind": "list_page", "size": 1, "marker": "cursor"},
    "one page, with hasMore": {"kind": "list_page", "size": 1, "marker": "hasMore"},
    "one page, with a total": {"kind": "list_page", "size": 1, "marker": "total"},
    "another account's": {"kind": "list_other_account"},
    "500": {"kind": "status", "code": 500, "match": {"method": "GET"}},
    "429": {"kind": "status", "code": 429, "match": {"method": "GET"}},
    "truncated": {"kind": "truncate", "match": {"method": "GET"}},
    "broken JSON": {"kind": "status", "code": 200, "body": "[{", "match": {"method": "GET"}},
    "longer than max_listing_bytes": {"kind": "huge", "size": 1_000_001, "match": {"method": "GET"}},
}


def lies(world: World, name: str) -> None:
    """From here on every listing of the team's is like that; orders before it and after it are in it or not."""
    parameters = dict(LIES[name])
    world.sandbox.set_fault(parameters.pop("kind"), count=0, **parameters)


def nothing_is_decided(world: World, key: str, name: str) -> None:
    """Neither of an order that OfferGrid has nor of one that it has not, until a listing is good again."""
    lies(world, name)
    there, gone = cut_off(world, key, taken_by_offergrid=True), cut_off(world, key + "g", taken_by_offergrid=False)
    world.order()  # the newest of all, so that what is short lacks the others
    stays_unknown(world, there)
    stays_unknown(world, gone, for_s=0)
    world.sandbox.clear_faults()
    placed_once(world, key, there)
    absent_then_placed(world, key + "g", gone)


@row(
    40,
    fault="the listing is one page of more, and nothing says so",
    answer="502 outcome-unknown; unknown",
    holds="stays unknown and nothing is sent, until the listing is whole",
)
@row(40, part="something says so, and names no address to follow")
@pytest.mark.parametrize("name", [name for name in LIES if name.startswith("one page")])
def test_row_40_a_page_is_not_the_listing(world: World, key: str, name: str) -> None:
    nothing_is_decided(world, key, name)


@row(40, part="each page names the next one", answer="unknown, then what is true", holds="every page is read")
@pytest.mark.parametrize("marker", ["link", "next"])
def test_row_40_pages_are_followed(world: World, key: str, marker: str) -> None:
    world.sandbox.set_fault("list_page", count=0, size=2, marker=marker)
    there, gone = cut_off(world, key, taken_by_offergrid=True), cut_off(world, key + "g", taken_by_offergrid=False)
    for _ in range(3):
        world.order()
    placed_once(world, key, there)
    absent_then_placed(world, key + "g", gone)
    pages = [call.query for call in world.calls if call.method == "GET"]
    assert any("cursor=" in query for query in pages)


@row(
    41,
    fault="the listing is stale by 90 s, or shows no metadata",
    answer="502 outcome-unknown; unknown",
    holds="the orders that it lacks bear witness: nothing is decided until it is good again",
)
@pytest.mark.parametrize("name", ["stale by 90 s", "without metadata"])
def test_row_41_a_stale_listing_decides_nothing(world: World, key: str, name: str) -> None:
    nothing_is_decided(world, key, name)


@row(41, part="the first listing after settle_after_s lacks this one order", answer="unknown, then placed")
def test_row_41_the_second_look_finds_what_the_first_one_lacks(world: World, key: str) -> None:
    world.sandbox.set_fault("list_without", count=0, metadata={"gatewayTenant": "shop"})
    order_id = cut_off(world, key, taken_by_offergrid=True)
    stays_unknown(world, order_id)
    world.sandbox.clear_faults()
    (order,) = [order for order in world.sandbox.orders if order.data["notes"] == key]
    world.sandbox.set_fault("list_without", count=1, orderId=order.order_id)
    placed_once(world, key, order_id)


@row(
    42,
    fault="the listing is answered 500 or 429, cut off, broken or too long",
    answer="502 outcome-unknown; unknown",
    holds="nothing is decided, and it is asked for less and less often",
)
@pytest.mark.parametrize("name", ["500", "429", "truncated", "broken JSON", "longer than max_listing_bytes"])
def test_row_42_a_listing_that_fails_decides_nothing(world: World, key: str, name: str) -> None:
    nothing_is_decided(world, key, name)


@row(42, part="while it fails", holds="no minute has more calls than the reserve")
def test_row_42_the_reserve_is_kept() -> None:
    settings = {**OFTEN, "budget__reserved_per_minute": 4}
    with a_world(**settings) as world:
        lies(world, "500")
        order_id = cut_off(world, uuid.uuid4().hex, taken_by_offergrid=True)
        wait_until(lambda: looks(world) >= 2, "two looks")
        stays = time.monotonic() + 3 * SETTLE_S
        while time.monotonic() < stays:
            assert world.shown(order_id)["outcome"] == "unknown"
            assert looks(world) <= 4
            time.sleep(0.05)
        world.sandbox.clear_faults()


@row(
    43,
    fault="the key's account is another one now",
    answer="502 outcome-unknown; unknown",
    holds="its listing holds no witness: nothing is decided until it is the team's again",
)
def test_row_43_another_accounts_listing_decides_nothing(world: World, key: str) -> None:
    nothing_is_decided(world, key, "another account's")


@pytest.fixture
def apart() -> Iterator[World]:
    """With a team that has an order, which bears witness."""
    with a_world_apart(**OFTEN) as world:
        assert world.order().status_code == 201
        yield world


def act_on(world: World, number: int = -1) -> None:
    """OfferGrid acts on a request that it had: now, behind everybody's back."""
    body = posts(world)[number].body
    httpx.post(
        world.sandbox.base_url + "/reseller/orders",
        content=body,
        headers={"x-api-key": UPSTREAM_KEY, "content-type": "application/json"},
        trust_env=False,
    ).raise_for_status()


def alarm(world: World, event: str, order_id: str) -> None:
    line = world.stack.process.wait_for(event)
    assert (line["order_id"], line["level"]) == (order_id, "error")


@row(
    39,
    fault="OfferGrid acts long after settle_after_s, when the order was settled as absent and placed again",
    answer="502 outcome-unknown, then the retry's 201; placed",
    holds="the second one is found, counted once, and an error is logged",
)
def test_row_39_an_order_that_is_taken_far_too_late_is_an_alarm(apart: World, key: str) -> None:
    order_id = cut_off(apart, key, taken_by_offergrid=False)
    request = len(posts(apart)) - 1
    absent_then_placed(apart, key, order_id)
    act_on(apart, request)
    wait_until(lambda: metric(apart, "ordergate_duplicates_total") == 1, "the duplicate is counted")
    alarm(apart, "duplicate", order_id)
    seen = looks(apart)
    wait_until(lambda: looks(apart) > seen + 2, "further looks")
    assert metric(apart, "ordergate_duplicates_total") == 1
    assert metric(apart, "ordergate_late_placements_total") == 0
    again = apart.order(key, notes=key)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")


@row(
    39,
    part="nobody tried again",
    answer="502 outcome-unknown; not_placed, then placed",
    holds="counted as late once",
)
def test_row_39_a_late_order_that_nobody_tried_again_becomes_placed(apart: World, key: str) -> None:
    order_id = cut_off(apart, key, taken_by_offergrid=False)
    becomes(apart, order_id, "not_placed")
    act_on(apart)
    wait_until(lambda: apart.shown(order_id)["outcome"] == "placed", "it is found")
    alarm(apart, "late_placement", order_id)
    assert metric(apart, "ordergate_late_placements_total") == 1
    assert metric(apart, "ordergate_duplicates_total") == 0
    assert apart.order(key, notes=key).json()["orderId"] == taken(apart, key)[0]


@row(
    44,
    fault="one order of the gateway's stands in the listing as two of OfferGrid's",
    answer="502 outcome-unknown; unknown, then placed",
    holds="placed as one of them; the other one is counted once, and an error is logged",
)
def test_row_44_an_order_that_is_there_twice_is_placed_and_an_alarm(apart: World, key: str) -> None:
    apart.sandbox.set_fault("list_page", count=0, size=0)
    order_id = cut_off(apart, key, taken_by_offergrid=True)
    act_on(apart)
    apart.sandbox.clear_faults()
    found = becomes(apart, order_id, "placed")
    assert found["upstreamOrderId"] in taken(apart, key)
    assert len(taken(apart, key)) == 2
    wait_until(lambda: metric(apart, "ordergate_duplicates_total") == 1, "the duplicate is counted")
    alarm(apart, "duplicate", order_id)
