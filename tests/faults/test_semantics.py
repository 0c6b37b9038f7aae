"""Answers of OfferGrid that are whole and mean something: what the tenant is told, and what must hold after it."""

import time
import uuid
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any, Final

import httpx
import pytest

from tests.accept.world import World, a_world, about_order, wait_until, what_was_told_is_true
from tests.faults.matrix import row
from tests.faults.seen import becomes, is_final, posts, taken, told_unknown

OFTEN: Final = {
    "reconcile__interval_s": 0.2,
    "reconcile__settle_after_s": 0.5,
    "budget__per_minute": 0,
    "budget__reserved_per_minute": 1000,
    "upstream__breaker_failures": 1_000_000,
}
"""Looks for unknown orders at once, and never minds how many orders fail."""


@pytest.fixture(scope="module")
def the_world() -> Iterator[World]:
    with a_world(**OFTEN) as world:
        yield world


@pytest.fixture
def world(the_world: World) -> Iterator[World]:
    """A gateway with the default 10 s for an order."""
    the_world.begin()
    yield the_world
    the_world.sandbox.clear_faults()
    what_was_told_is_true(the_world)


@pytest.fixture
def key() -> str:
    """An idempotency key, and the order's notes: no other order is like it."""
    return uuid.uuid4().hex


MESSAGES: Final[dict[str, dict[str, Any]]] = {
    "a string": {"statusCode": 400, "message": "notes must be a string", "error": "Bad Request"},
    "a list of strings": {"statusCode": 400, "message": ["a must be", "b must be"], "error": "Bad Request"},
    "an object": {"statusCode": 400, "message": {"items": ["0.offerId"]}, "error": "Bad Request"},
    "a field": {"error": "Invalid email format", "field": "customerInfo.email"},
}


@row(
    27,
    fault="400 with a JSON object, its message a string, a list or an object",
    answer="400 order-rejected; rejected",
    holds="sent once; every replay has the same bytes, with the key and without it",
)
@pytest.mark.parametrize("body", MESSAGES.values(), ids=MESSAGES)
def test_row_27_a_400_with_an_object_is_final(world: World, key: str, body: dict[str, Any]) -> None:
    world.sandbox.set_fault("status", code=400, body=body)
    first = world.order(key, notes=key)
    found = about_order(world, first, 400, "order-rejected", "rejected")
    assert found["upstream"] == {"status": 400, "body": body}
    is_final(world, first, key)
    assert len(posts(world)) == 1
    assert taken(world, key) == []


@row(
    28,
    fault="404: an offer is not available to the team",
    answer="404 order-rejected; rejected",
    holds="sent once; every replay has the same bytes",
)
def test_row_28_a_404_for_an_offer_is_final(world: World, key: str) -> None:
    offer = [{"offerId": "unavailable-1"}]
    first = world.order(key, notes=key, items=offer)
    found = about_order(world, first, 404, "order-rejected", "rejected")
    assert found["upstream"]["status"] == 404
    again = world.order(key, notes=key, items=offer)
    assert (again.status_code, again.content) == (404, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert len(posts(world)) == 1
    assert taken(world, key) == []


@row(
    29,
    fault="404, 403 or 502 with a proxy's HTML page, the order being placed or not",
    answer="502 outcome-unknown; unknown",
    holds="sent once; where OfferGrid has it, it becomes placed",
)
@pytest.mark.parametrize("code", [404, 403, 502])
def test_row_29_a_proxys_page_says_nothing_of_the_order(world: World, key: str, code: int) -> None:
    world.sandbox.set_fault("html_4xx", code=code, place=True)
    order_id = told_unknown(world.order(key, notes=key))
    found = becomes(world, order_id, "placed")
    assert [found["upstreamOrderId"]] == taken(world, key)
    is_final(world, world.order(key, notes=key), key)
    assert len(posts(world)) == 1


@row(
    31,
    fault="401 to the team's only key",
    answer="502 upstream-credentials; not_placed",
    holds="sent once; nothing is placed",
)
def test_row_31_a_refused_key_is_the_operators_to_mend(world: World, key: str) -> None:
    token = world.token_of("refused", team="refused", key="sandbox-revoked-31")
    answer = world.order(key, token=token, notes=key)
    about_order(world, answer, 502, "upstream-credentials", "not_placed", token=token)
    assert len(posts(world)) == 1
    assert taken(world, key) == []


@row(
    32,
    fault="403: the team's role may not place orders",
    answer="502 upstream-credentials; not_placed",
    holds="exactly one POST; once OfferGrid allows it, the same key places it under the same id",
)
def test_row_32_a_forbidden_key_is_not_tried_twice(world: World, key: str) -> None:
    upstream_key = "sandbox-provider-32"
    token = world.token_of("forbidden", team="forbidden", key=upstream_key)
    answer = world.order(key, token=token, notes=key)
    found = about_order(world, answer, 502, "upstream-credentials", "not_placed", token=token)
    assert len(posts(world)) == 1
    httpx.post(
        f"{world.sandbox.base_url}/sandbox/keys", json={"key": upstream_key, "state": "accepted"}, trust_env=False
    ).raise_for_status()
    again = world.order(key, token=token, notes=key)
    assert again.status_code == 201
    assert again.headers["ordergate-order-id"] == found["orderId"]
    assert taken(world, key) == [again.json()["orderId"]]


@row(
    33,
    fault="429 with retry-after 1, then 201",
    answer="201; placed",
    holds="two POSTs, the second not before the second was over; two attempts in the ledger",
)
def test_row_33_a_short_429_is_waited_for(world: World, key: str) -> None:
    world.sandbox.set_fault("status", code=429, retry_after=1)
    answer = world.order(key, notes=key)
    assert answer.status_code == 201
    first, second = posts(world)
    assert second.received.monotonic_ns - first.received.monotonic_ns >= 1_000_000_000
    assert first.body == second.body
    shown = world.shown(answer.headers["ordergate-order-id"])
    assert [(attempt["evidence"], attempt["status"]) for attempt in shown["attempts"]] == [
        ("answered", 429), ("answered", 201),
    ]  # fmt: skip
    assert taken(world, key) == [answer.json()["orderId"]]
    is_final(world, answer, key)


@pytest.fixture(scope="module")
def brief_world() -> Iterator[World]:
    # In 1.9 s a wait of 1 s leaves less than half of the time: nothing is sent again after a 429.
    with a_world(upstream__timeout_s=1.9, **OFTEN) as world:
        yield world


IN_TEN_MINUTES: Final = "in ten minutes"  # from the test on: a long run is longer
AFTERS: Final = {
    "an hour": ("3600", 3600, 3600),
    "a date": (IN_TEN_MINUTES, 1, 600),
    "a date of 9999": ("Fri, 31 Dec 9999 23:59:59 GMT", 3600, 3600),
    "a date gone by": ("Sun, 06 Nov 1994 08:49:37 GMT", 1, 1),
    "negative": ("-1", 1, 1),
    "10^30": ("1" + "0" * 30, 3600, 3600),
    "garbage": ("soon, perhaps", 1, 1),
    "nothing": (None, 1, 1),
}


@row(
    34,
    fault="429 with retry-after 3600, a date, -1, 10^30, garbage or none",
    answer="429 upstream-throttled; not_placed",
    holds="retry-after is a whole number of seconds from 1 to 3600; one POST; later the same key places it",
)
@pytest.mark.parametrize(("said", "least", "most"), AFTERS.values(), ids=AFTERS)
def test_row_34_a_429_is_passed_on_made_sane(
    brief_world: World, key: str, said: str | None, least: int, most: int
) -> None:
    world = brief_world
    alone = f"alone-{uuid.uuid4().hex}"  # what OfferGrid says of a key holds for all who share it
    token = world.token_of(alone, team=alone, key=f"sandbox-key-{alone}")
    world.begin()
    if said == IN_TEN_MINUTES:
        said = formatdate(time.time() + 600, usegmt=True)
    world.sandbox.set_fault("status", code=429, **({} if said is None else {"retry_after": said}))
    answer = world.order(key, token=token, notes=key)
    found = about_order(world, answer, 429, "upstream-throttled", "not_placed", token=token)
    assert least <= int(answer.headers["retry-after"]) <= most
    assert len(posts(world)) == 1
    again = world.order(key, token=token, notes=key)
    if most > 1:
        assert again.status_code == 429
        assert len(posts(world)) == 1, "the pause that it asked for holds"
        return
    wait_until(lambda: world.order(key, token=token, notes=key).status_code == 201, "it to be placed later")
    again = world.order(key, token=token, notes=key)
    assert again.headers["ordergate-order-id"] == found["orderId"]
    assert taken(world, key) == [again.json()["orderId"]]


@row(
    35,
    fault="500 after the order was placed",
    answer="502 outcome-unknown; unknown, then placed",
    holds="sent once; the replay is a 201 with the order as OfferGrid lists it, the same bytes each time",
)
def test_row_35_a_500_after_placing_is_looked_for(world: World, key: str) -> None:
    world.sandbox.set_fault("place_then_500")
    order_id = told_unknown(world.order(key, notes=key))
    found = becomes(world, order_id, "placed")
    replay = world.order(key, notes=key)
    assert (replay.status_code, replay.json()) == (201, found["response"])
    assert [replay.json()["orderId"]] == taken(world, key)
    is_final(world, replay, key)
    assert len(posts(world)) == 1


@row(
    36,
    fault="503, nothing placed",
    answer="502 outcome-unknown; unknown",
    holds="while it is unknown, the same order gets the same answer and nothing is sent",
)
def test_row_36_a_503_is_not_believed(world: World, key: str) -> None:
    world.sandbox.set_fault("list_page", count=0, marker="hasMore")  # no listing is whole: nothing is decided
    world.sandbox.set_fault("status", code=503, retry_after=1)
    order_id = told_unknown(world.order(key, notes=key))
    for _ in range(2):
        assert told_unknown(world.order(key, notes=key)) == order_id
    assert told_unknown(world.order(notes=key)) == order_id
    assert len(posts(world)) == 1
    assert taken(world, key) == []


@row(36, part="looked for, and not listed", answer="502, then 201 to who asks again", holds="one order, two POSTs")
def test_row_36_after_a_503_absence_is_proven_and_the_order_placed(world: World, key: str) -> None:
    world.order(notes=key + "-witness")
    world.sandbox.set_fault("status", code=503)
    order_id = told_unknown(world.order(key, notes=key))
    becomes(world, order_id, "not_placed")
    again = world.order(key, notes=key)
    assert (again.status_code, again.headers["ordergate-order-id"]) == (201, order_id)
    assert taken(world, key) == [again.json()["orderId"]]
    is_final(world, again, key)
    assert len(posts(world)) == 3


@row(37, fault="408", answer="502 outcome-unknown; unknown", holds="sent once")
def test_row_37_a_408_says_nothing(world: World, key: str) -> None:
    world.sandbox.set_fault("status", code=408, place=True, body={"statusCode": 408, "message": "Request Timeout"})
    order_id = told_unknown(world.order(key, notes=key))
    becomes(world, order_id, "placed")
    assert len(posts(world)) == len(taken(world, key)) == 1


@row(37, part="425 or 499 with a JSON object", answer="the same status, order-rejected; rejected")
@pytest.mark.parametrize("code", [425, 499])
def test_row_37_other_4xx_with_an_object_are_final(world: World, key: str, code: int) -> None:
    world.sandbox.set_fault("status", code=code, body={"statusCode": code, "message": "no"})
    first = world.order(key, notes=key)
    about_order(world, first, code, "order-rejected", "rejected")
    is_final(world, first, key)
    assert len(posts(world)) == 1


@row(37, part="425 or 499 without one", answer="502 outcome-unknown; unknown")
@pytest.mark.parametrize("code", [425, 499])
@pytest.mark.parametrize("body", ["", "[1]", '"no"', "<html>", '{"a":1,"a":2}'])
def test_row_37_other_4xx_without_an_object_say_nothing(world: World, key: str, code: int, body: str) -> None:
    world.sandbox.set_fault("status", code=code, body=body, place=True)
    order_id = told_unknown(world.order(key, notes=key))
    becomes(world, order_id, "placed")
    assert len(posts(world)) == len(taken(world, key)) == 1
