"""Looking at orders: pages, filters, and what one tenant must not learn of another."""

import uuid
from typing import Any

import pytest

from tests.accept.world import ORDER_ID, World, refused


def _pages(world: World, token: str, query: str, between: Any = None) -> list[dict[str, Any]]:
    """Every order, page by page; `between` is called before each further page."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        answer = world.ask("GET", f"/orders?{query}" + (f"&cursor={cursor}" if cursor else ""), token=token)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert set(page) == {"orders", "nextCursor"}
        found += page["orders"]
        assert len(found) < 1_000, "pages without an end"
        cursor = page["nextCursor"]
        if cursor is None:
            return found
        if between is not None:
            between()


def test_pages_hold_while_new_orders_arrive(world: World) -> None:
    tokens = [world.token_of("paging-one"), world.token_of("paging-two")]
    ids: list[list[str]] = [[], []]
    for number in range(45):
        answer = world.order(token=tokens[number % 2])
        ids[number % 2].append(answer.headers["ordergate-order-id"])
    new: list[str] = []

    def arrive() -> None:
        new.append(world.order(token=tokens[0]).headers["ordergate-order-id"])

    for limit in (1, 7, 22, 23, 100):
        before = ids[0] + new
        found = _pages(world, tokens[0], f"limit={limit}", arrive)
        assert [order["orderId"] for order in found] == before[::-1], "newest first, none twice, none left out"
    assert [order["orderId"] for order in _pages(world, tokens[1], "limit=20")] == ids[1][::-1]
    assert len(world.ask("GET", "/orders", token=tokens[0]).json()["orders"]) == 20, "unless said otherwise"


def test_order_as_it_is_shown(world: World) -> None:
    answer = world.order('"quoted key"'.replace(" ", "-"), metadata={"a": 1})
    shown = world.shown(answer.headers["ordergate-order-id"])
    assert list(shown) == [
        "orderId", "tenant", "outcome", "httpStatus", "upstreamOrderId", "upstreamStatus", "idempotencyKey",
        "createdAt",
        "settledAt", "attempts", "response",
    ]  # fmt: skip
    assert ORDER_ID.fullmatch(shown["orderId"])
    assert (shown["tenant"], shown["outcome"], shown["httpStatus"]) == ("shop", "placed", 201)
    assert shown["upstreamOrderId"] == answer.json()["orderId"]
    assert shown["idempotencyKey"] == "quoted-key", "without its quotes"
    assert shown["response"] == answer.json()
    assert shown["createdAt"] <= shown["settledAt"]
    (attempt,) = shown["attempts"]
    assert (attempt["evidence"], attempt["status"]) == ("answered", 201)
    assert attempt["startedAt"] <= attempt["endedAt"]
    listed = world.ask("GET", "/orders?limit=1").json()["orders"]
    assert listed == [shown]


def test_filter_by_outcome(world: World) -> None:
    token = world.token_of("filtered")
    world.order(token=token)
    for fault in ("echo_key", "place_then_500"):
        world.sandbox.set_fault(fault)
        world.order(token=token)
    counts = {}
    for outcome in ("queued", "in_flight", "placed", "rejected", "not_placed", "unknown"):
        found = _pages(world, token, f"outcome={outcome}&limit=1")
        assert {order["outcome"] for order in found} <= {outcome}
        counts[outcome] = len(found)
    assert counts == {"queued": 0, "in_flight": 0, "placed": 1, "rejected": 1, "not_placed": 0, "unknown": 1}


@pytest.mark.parametrize("query", [
    "limit=0", "limit=101", "limit=-1", "limit=1e1", "limit=", "limit", "limit=+5", "limit=٣",
    "limit=99999999999999999",
    "outcome=lost", "outcome=", "outcome=PLACED", "cursor=", "cursor=zz", "cursor=-1", "cursor=" + "f" * 16,
    "cursor=1'",
    "limit=1&limit=1", "outcome=placed&outcome=rejected", "page=2", "limit=5&tenant=other", "a%00=b", "limit=%ff",
    "tenant_id=1", "outcome=placed'%20OR%201=1--", "cursor=%27%20OR%201=1--", "limit=5;outcome=placed", "=", "%",
])  # fmt: skip
def test_400_bad_request_query(world: World, query: str) -> None:
    refused(world.ask("GET", f"/orders?{query}"), 400, "bad-request")


def test_cursor_of_another_tenant_shows_nothing_of_it(world: World) -> None:
    mine, theirs = world.token_of("cursor-mine"), world.token_of("cursor-theirs")
    own = [world.order(token=mine).headers["ordergate-order-id"] for _ in range(3)]
    for _ in range(3):
        world.order(token=theirs)
    cursor = world.ask("GET", "/orders?limit=1", token=theirs).json()["nextCursor"]
    assert cursor
    found = world.ask("GET", f"/orders?cursor={cursor}", token=mine).json()["orders"]
    assert [order["orderId"] for order in found] == own[::-1]


def test_404_not_found_is_the_same_for_every_order_that_is_not_yours(world: World) -> None:
    theirs = world.order(token=world.token_of("neighbour")).headers["ordergate-order-id"]
    mine = world.order().headers["ordergate-order-id"]
    assert world.shown(mine)["orderId"] == mine
    near = mine[:-1] + ("0" if mine[-1] != "0" else "1")
    paths = [
        theirs, near, str(uuid.uuid4()), mine.upper(), mine.replace("-", ""), "x", "0", "-1", "null",
        "x" * 36, "x" * 2000,
        "...", "1'--", "' OR '1'='1", mine + "'", mine + " ",
    ]  # fmt: skip
    told = set()
    for order_id in paths:
        answer = world.ask("GET", f"/orders/{order_id}")
        found = refused(answer, 404, "not-found")
        plain = set(order_id) <= set("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._~")
        if plain and order_id.strip("."):
            del found["requestId"]
            told.add(str(found))
    assert len(told) == 1


def test_same_key_of_two_tenants_names_two_orders(world: World) -> None:
    other = world.token_of("same-key")
    answers = [world.order("shared", notes="same", token=token) for token in (world.stack.token, other)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert len({answer.headers["ordergate-order-id"] for answer in answers}) == 2
    assert not [answer for answer in answers if "idempotent-replayed" in answer.headers]


def test_quotes_are_no_part_of_a_key(world: World) -> None:
    first = world.order("k1", notes="same")
    second = world.order('"k1"', notes="same")
    assert second.headers["idempotent-replayed"] == "true"
    assert second.content == first.content
    third = world.order('"a\\"b\\\\c"', notes="same")
    assert world.shown(third.headers["ordergate-order-id"])["idempotencyKey"] == 'a"b\\c'


def test_same_body_in_another_spelling_is_the_same_order(world: World) -> None:
    one = '{"items":[{"offerId":"a"}],"n":[1,1.50,1e2],"s":"\\u0041/\\/",%s}'
    two = '{ "s" : "A\\/\\u002f",%s, "n":[1,1.5,100], "items" : [ {"offerId":"\\u0061"} ] }'
    rest = (
        '"serviceAddress":{"street":"s","city":"c","state":"s","zipCode":"z","country":"c"},'
        '"customerInfo":{"fullName":"f","email":"a@b.c","phone":"p"}'
    )
    headers = {"content-type": "application/json", "idempotency-key": "spelling"}
    first = world.ask("POST", "/orders", content=one % rest, headers=headers)
    assert first.status_code == 201
    second = world.ask("POST", "/orders", content=two % rest, headers=headers)
    assert (second.status_code, second.content) == (201, first.content)
    for other in (
        one.replace("1.50", "1.500000000000000001"),
        one.replace('"a"', '"A"'),
        one.replace("[1,", "[true,"),
    ):
        refused(world.ask("POST", "/orders", content=other % rest, headers=headers), 422, "idempotency-key-reused")
    assert len(world.placed) == 1
