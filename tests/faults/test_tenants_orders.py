"""What tenants do with one order: hang up on it, send it many times at once, or change it under its key."""

import json
import socket
import struct
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import httpx
import pytest

from tests.accept.raw import request
from tests.accept.world import World, a_world, about_order, wait_until, what_was_told_is_true
from tests.faults.matrix import row
from tests.faults.seen import is_final, posts, taken
from tests.support.stack import an_order

PARALLEL: Final = 50


@pytest.fixture(scope="module")
def the_world() -> Iterator[World]:
    with a_world(budget__per_minute=0) as world:
        yield world


@pytest.fixture
def world(the_world: World) -> Iterator[World]:
    the_world.begin()
    yield the_world
    the_world.sandbox.clear_faults()
    what_was_told_is_true(the_world)


@pytest.fixture
def key() -> str:
    """An idempotency key, and the order's notes: no other order is like it."""
    return uuid.uuid4().hex


def order_bytes(world: World, key: str) -> bytes:
    return request(
        f"Idempotency-Key: {key}", token=world.stack.token, body=json.dumps(an_order(notes=key)).encode()
    )


def connected(world: World) -> socket.socket:
    url = httpx.URL(world.stack.tenant_url)
    return socket.create_connection((url.host, url.port or 0), timeout=30)


def fin(connection: socket.socket) -> None:
    connection.close()


def rst(connection: socket.socket) -> None:
    """Ends the connection as a host that is gone does: what is still on its way is lost."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


HANGS_UP: Final = {"FIN": fin, "RST": rst}


@row(
    72,
    fault="the tenant hangs up, by FIN or RST, before its order is whole",
    answer="–; nothing",
    holds="nothing is sent and no key is bound; sent again, it is placed",
)
@pytest.mark.parametrize("hang_up", HANGS_UP.values(), ids=HANGS_UP)
@pytest.mark.parametrize("left", [1, 100, 400])
def test_row_72_hang_up_before_the_order_is_whole(
    world: World, key: str, left: int, hang_up: Callable[[socket.socket], None]
) -> None:
    with connected(world) as connection:
        connection.sendall(order_bytes(world, key)[:-left])
        hang_up(connection)
    answer = world.order(key, notes=key)
    assert answer.status_code == 201
    assert "idempotent-replayed" not in answer.headers
    assert len(posts(world)) == 1
    assert taken(world, key) == [answer.json()["orderId"]]


@row(72, part="while the order is at OfferGrid", answer="201 to whoever asks again; placed", holds="sent once")
@pytest.mark.parametrize("hang_up", HANGS_UP.values(), ids=HANGS_UP)
def test_row_72_hang_up_while_the_order_is_in_flight(
    world: World, key: str, hang_up: Callable[[socket.socket], None]
) -> None:
    world.sandbox.set_fault("slow", after_s=60)
    with connected(world) as connection:
        connection.sendall(order_bytes(world, key))
        wait_until(lambda: len(posts(world)) == 1, "the order at the sandbox")
        hang_up(connection)
    about_order(world, world.order(key, notes=key), 409, "order-in-flight", "in_flight")
    world.sandbox.clear_faults()
    asked: list[httpx.Response] = []

    def ended() -> bool:
        asked.append(world.order(key, notes=key))
        return asked[-1].status_code != 409

    wait_until(ended, "the order's end")
    assert asked[-1].status_code == 201
    assert asked[-1].headers["idempotent-replayed"] == "true"
    assert taken(world, key) == [asked[-1].json()["orderId"]]
    assert len(posts(world)) == 1


@row(72, part="while the answer is on its way", answer="the same bytes to whoever asks again", holds="sent once")
@pytest.mark.parametrize("hang_up", HANGS_UP.values(), ids=HANGS_UP)
def test_row_72_hang_up_in_the_middle_of_the_answer(
    world: World, key: str, hang_up: Callable[[socket.socket], None]
) -> None:
    with connected(world) as connection:
        connection.sendall(order_bytes(world, key))
        assert connection.recv(20) == b"HTTP/1.1 201 Created"
        hang_up(connection)
    answer = world.order(key, notes=key)
    assert (answer.status_code, answer.headers["idempotent-replayed"]) == (201, "true")
    assert taken(world, key) == [answer.json()["orderId"]]
    is_final(world, answer, key)
    assert len(posts(world)) == 1


@pytest.fixture(scope="module")
def narrow_world() -> Iterator[World]:
    with a_world(
        budget__per_minute=0, upstream__max_in_flight=1, admission__max_wait_s=60, shutdown__drain_s=80
    ) as world:
        yield world


@row(
    72,
    part="while the order waits for a place",
    answer="none; not_placed",
    holds="it is never sent; sent again, it is placed under the same order id",
)
@pytest.mark.parametrize("hang_up", HANGS_UP.values(), ids=HANGS_UP)
def test_row_72_hang_up_while_the_order_waits(
    narrow_world: World, key: str, hang_up: Callable[[socket.socket], None]
) -> None:
    world = narrow_world
    world.begin()

    def says(outcome: str) -> bool:
        return [order.outcome for order in world.ledger() if order.idempotency_key == key] == [outcome]

    world.sandbox.set_fault("slow", after_s=60)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(world.order)
        wait_until(lambda: len(posts(world)) == 1, "the one place taken")
        with connected(world) as connection:
            connection.sendall(order_bytes(world, key))
            wait_until(lambda: says("queued"), "the second one waiting")
            hang_up(connection)
        wait_until(lambda: says("not_placed"), "it is given up")
        world.sandbox.clear_faults()
        assert first.result().status_code == 201
    assert taken(world, key) == []
    again = world.order(key, notes=key)
    assert again.status_code == 201
    (found,) = [order for order in world.ledger() if order.idempotency_key == key]
    assert again.headers["ordergate-order-id"] == found.order_id
    assert len(posts(world)) == 2


@row(
    73,
    fault="50 requests at once with one key and one body",
    answer="one 201; the others 409 order-in-flight, or the same 201",
    holds="one POST; every 201 has the same bytes",
)
def test_row_73_fifty_at_once_are_one_order(world: World, key: str) -> None:
    world.sandbox.set_fault("slow", after_s=0.2)
    with ThreadPoolExecutor(PARALLEL) as pool:
        answers = list(pool.map(lambda _: world.order(key, notes=key), range(PARALLEL)))
    placed = [answer for answer in answers if answer.status_code == 201]
    for answer in answers:
        if answer not in placed:
            assert (answer.status_code, answer.json()["type"]) == (409, "/problems/order-in-flight")
            assert answer.headers["retry-after"] == "1"
    assert len([answer for answer in placed if "idempotent-replayed" not in answer.headers]) == 1
    assert len({answer.content for answer in placed}) == 1
    assert len({answer.headers["ordergate-order-id"] for answer in answers}) == 1
    assert len(posts(world)) == 1
    assert taken(world, key) == [placed[0].json()["orderId"]]


@row(73, part="without a key: the body is the key", holds="the same")
def test_row_73_fifty_at_once_without_a_key_are_one_order(world: World, key: str) -> None:
    world.sandbox.set_fault("slow", after_s=0.2)
    with ThreadPoolExecutor(PARALLEL) as pool:
        answers = list(pool.map(lambda _: world.order(notes=key), range(PARALLEL)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    firsts = [answer for answer in answers if "ordergate-matched-by" not in answer.headers]
    assert [answer.status_code for answer in firsts] == [201]
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert len(posts(world)) == 1
    assert taken(world, key) == [firsts[0].json()["orderId"]]


def sent(world: World, key: str, text: str) -> httpx.Response:
    return world.ask(
        "POST",
        "/orders",
        content=text.encode(),
        headers={"idempotency-key": key, "content-type": "application/json"},
    )


@row(
    74,
    fault="the same key with another body",
    answer="422 idempotency-key-reused",
    holds="sent once; the first order keeps its key",
)
def test_row_74_the_same_key_with_another_body_is_refused(world: World, key: str) -> None:
    first = world.order(key, notes=key)
    for other in ({"notes": key + "x"}, {"notes": key, "metadata": {}}, {"notes": key, "more": None}):
        refused = world.order(key, **other)
        assert (refused.status_code, refused.json()["type"]) == (422, "/problems/idempotency-key-reused")
        assert "ordergate-order-id" not in refused.headers
    is_final(world, first, key)
    assert len(posts(world)) == 1


@row(
    74,
    part="spelled differently: white space, member order, escapes",
    answer="the first answer again; placed",
    holds="sent once",
)
def test_row_74_the_same_values_are_the_same_body(world: World, key: str) -> None:
    order = an_order(notes=key, metadata={"a": "ü", "b": [1, 2.50, "/"]})
    first = sent(world, key, json.dumps(order))
    assert first.status_code == 201
    for text in (
        json.dumps(order, indent=3),
        json.dumps(order, ensure_ascii=False),
        json.dumps(dict(reversed(order.items()))),
        json.dumps(order).replace('"/"', '"\\/"').replace('"a"', '"\\u0061"'),
    ):
        again = sent(world, key, text)
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["idempotent-replayed"] == "true"
    assert len(posts(world)) == 1


@row(74, part="1 and 1.0, which are equal", answer="the first answer again; placed", holds="sent once")
def test_row_74_equal_numbers_are_equal_however_spelled(world: World, key: str) -> None:
    form = json.dumps(an_order(notes=key, metadata={"n": "N"}))
    first = sent(world, key, form.replace('"N"', "1"))
    assert first.status_code == 201
    for number in ("1.0", "1e0", "10E-1", "1.000"):
        again = sent(world, key, form.replace('"N"', number))
        assert (again.status_code, again.content) == (201, first.content), number
    # Never rounded: what a float cannot tell from 1 is another number.
    for number in ("1.00000000000000000001", "0.99999999999999999999"):
        assert sent(world, key, form.replace('"N"', number)).status_code == 422, number
    assert len(posts(world)) == 1
