"""What tenants do with connections: feed them a byte at a time, hold them open, and take more than there are."""

import json
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx
import pytest

from tests.accept.metrics import series, total
from tests.accept.raw import RawConnection, exchange, request
from tests.accept.world import World, a_world, problem, refused, wait_until, what_was_told_is_true
from tests.faults.matrix import row
from tests.faults.seen import posts, taken
from tests.support.stack import an_order

TIMEOUT_S: Final = 0.6
BYTE_EVERY_S: Final = 0.05
BEGUN: Final = b"POST /orders HTTP/1.1\r\nHost: gateway\r\nX-A: "
MANY: Final = 2_000
HEALTH: Final = request(first="GET /healthz HTTP/1.1", kind=None, body=b"")


@pytest.fixture(scope="module")
def hasty_world() -> Iterator[World]:
    with a_world(
        budget__per_minute=0,
        tenant_api__header_timeout_s=TIMEOUT_S,
        tenant_api__body_timeout_s=TIMEOUT_S,
        tenant_api__idle_timeout_s=TIMEOUT_S,
        tenant_api__max_connections=8,
    ) as world:
        yield world


@pytest.fixture
def world(hasty_world: World) -> Iterator[World]:
    """A gateway that waits 0.6 s for whatever it waits for, with 8 connections at once for tenants."""
    hasty_world.client.close()
    hasty_world.client = hasty_world.stack.client(limits=httpx.Limits(max_keepalive_connections=0))
    hasty_world.begin()
    yield hasty_world
    hasty_world.sandbox.clear_faults()
    what_was_told_is_true(hasty_world)


def order_bytes(world: World, key: str) -> bytes:
    return request(f"Idempotency-Key: {key}", token=world.stack.token)


def others_are_served(world: World) -> None:
    """An order on a connection of its own."""
    assert world.order().status_code == 201


@row(
    75,
    part="header",
    fault="a tenant sends its header one byte at a time",
    answer="408 request-timeout, and the connection ends; –",
    holds="others are served; nothing is sent; the refusal is counted",
)
@pytest.mark.parametrize("listener", ["tenant", "admin"])
def test_row_75_header_one_byte_at_a_time(world: World, listener: str) -> None:
    labels = {"listener": listener, "method": "_other", "route": "_none", "status": "408"}
    before = total(series(world), "ordergate_http_requests_total", **labels)
    lines = len(world.stack.process.log)
    url = world.stack.tenant_url if listener == "tenant" else world.stack.admin_url
    with RawConnection(url) as connection:
        connection.send_slowly(BEGUN + b"a" * 10_000, BYTE_EVERY_S)
        others_are_served(world)
        refused(connection.answer(), 408, "request-timeout")
        assert connection.is_closed()
    assert len(posts(world)) == 1
    assert total(series(world), "ordergate_http_requests_total", **labels) == before + 1

    def logged() -> bool:
        of_requests = [line for line in world.stack.process.log[lines:] if line["event"] == "request"]
        return any(line["status"] == 408 and line["listener"] == listener for line in of_requests)

    wait_until(logged, "the refusal in the log")


@row(
    75, part="header, behind an order on the same connection", answer="201 to the order, then 408", holds="in order"
)
def test_row_75_header_of_a_second_request(world: World) -> None:
    with RawConnection(world.stack.tenant_url) as connection:
        connection.send(order_bytes(world, uuid4().hex))
        assert connection.answer().status_code == 201
        connection.send_slowly(BEGUN + b"a" * 10_000, BYTE_EVERY_S)
        refused(connection.answer(), 408, "request-timeout")
        assert connection.is_closed()


@row(
    75,
    part="header, behind an order that is in flight",
    answer="201 to the order; the connection then ends",
    holds="no 408 stands where the order's answer belongs",
)
def test_row_75_header_behind_an_order_in_flight(world: World) -> None:
    world.sandbox.set_fault("slow", after_s=3 * TIMEOUT_S)
    with RawConnection(world.stack.tenant_url) as connection:
        connection.send(order_bytes(world, uuid4().hex) + BEGUN)
        assert connection.answer().status_code == 201
        assert connection.is_closed()
    assert len(posts(world)) == 1


@row(75, part="body", fault="a tenant sends its body one byte at a time")
def test_row_75_body_one_byte_at_a_time(world: World) -> None:
    data = order_bytes(world, uuid4().hex)
    head = data.index(b"\r\n\r\n") + 4
    with RawConnection(world.stack.tenant_url) as connection:
        connection.send(data[:head])
        connection.send_slowly(data[head:], BYTE_EVERY_S)
        refused(connection.answer(), 408, "request-timeout")
        assert connection.is_closed()
    assert not posts(world)
    others_are_served(world)


@row(75, part="the body of a request that has its answer", answer="the connection ends", holds="others are served")
def test_row_75_body_behind_its_answer(world: World) -> None:
    with RawConnection(world.stack.tenant_url) as connection:
        connection.send(request(first="POST /nowhere HTTP/1.1", body=b"x" * 10_000)[:-9_990])
        refused(connection.answer(), 404, "not-found")
        connection.send_slowly(b"x" * 9_000, BYTE_EVERY_S)
        assert connection.is_closed()
    others_are_served(world)


@row(75, part="a connection on which nothing comes", answer="the connection ends")
@pytest.mark.parametrize("first", [b"", b"\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"])
def test_row_75_nothing_comes(world: World, first: bytes) -> None:
    for url in (world.stack.tenant_url, world.stack.admin_url):
        with RawConnection(url) as connection:
            if first:
                connection.send(first)
            if first.strip():
                assert connection.answer().status_code == 200
            assert connection.is_closed()
    others_are_served(world)


@row(
    75,
    part="an answer that is not taken",
    fault="a tenant asks without end and reads nothing",
    answer="the connection ends",
    holds="others are served",
)
def test_row_75_answers_that_are_not_taken(world: World) -> None:
    others_are_served(world)
    ask = request(first="GET /openapi.json HTTP/1.1", body=b"", kind=None)
    with RawConnection(world.stack.tenant_url) as connection, pytest.raises(ConnectionError):
        while True:
            connection.send(ask * 100)
    others_are_served(world)


@row(
    75,
    part="more connections than there are, each with an order in flight",
    answer="503 overloaded at once with retry-after, and the connection ends; nothing sent",
    holds="those that were there first are answered; there is room again when one ends",
)
def test_row_75_no_connection_left(world: World) -> None:
    world.sandbox.set_fault("slow", after_s=60)
    labels = {"listener": "tenant", "route": "_none", "status": "503"}
    before = total(series(world), "ordergate_http_requests_total", **labels)
    with ExitStack() as stack:
        held = [stack.enter_context(RawConnection(world.stack.tenant_url)) for _ in range(8)]
        for connection in held:
            connection.send(order_bytes(world, uuid4().hex))
        wait_until(lambda: len(posts(world)) == 8, "8 orders in flight")
        for _ in range(5):
            answer = exchange(world.stack.tenant_url, request(token=world.stack.token))
            refused(answer, 503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
        world.sandbox.clear_faults()
        assert [connection.answer().status_code for connection in held] == [201] * 8
    assert len(posts(world)) == 8
    assert total(series(world), "ordergate_http_requests_total", **labels) == before + 5
    wait_until(lambda: world.ask("GET", "/healthz").status_code == 200, "room again")
    others_are_served(world)


@row(
    75,
    part="every connection idle",
    fault="one tenant holds every connection open and sends nothing",
    answer="201 to another tenant: the idlest is closed for it",
    holds="the others stay open, and the one with a request begun is never the one",
)
def test_row_75_the_idlest_makes_room() -> None:
    with (
        a_world(budget__per_minute=0, tenant_api__header_timeout_s=300, tenant_api__max_connections=3) as world,
        RawConnection(world.stack.tenant_url) as begun,
        RawConnection(world.stack.tenant_url) as idlest,
        RawConnection(world.stack.tenant_url) as idle,
    ):
        begun.send(HEALTH[:-1])
        idle.send(HEALTH)
        assert idle.answer().status_code == 200
        wait_until(
            lambda: exchange(world.stack.tenant_url, request(token=world.stack.token)).status_code == 201,
            "an order placed",
        )
        assert idlest.is_closed()
        for connection, rest in ((begun, HEALTH[-1:]), (idle, HEALTH)):
            connection.send(rest)
            assert connection.answer().status_code == 200


@pytest.fixture
def plain_world() -> Iterator[World]:
    """A gateway with the connections that it has by default, which may be idle for 4 s."""
    with (
        a_descriptor_for_each(MANY),
        a_world(budget__per_minute=0, tenant_api__header_timeout_s=4, tenant_api__idle_timeout_s=4) as world,
    ):
        yield world


@contextmanager
def a_descriptor_for_each(connections: int) -> Iterator[None]:
    """This process may have as many open sockets beside what it has."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + 500
    if before < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def last_words(connection: RawConnection) -> httpx.Response | None:
    """What a connection on which nothing is sent is told before it ends."""
    try:
        return connection.answer()
    except EOFError:
        return None


@row(
    75,
    part="2,000 idle connections",
    fault="one tenant holds every connection open and sends nothing",
    answer="201 to another tenant: the idlest is closed for it",
    holds="all 2,000 are closed in the end",
)
def test_row_75_two_thousand_idle_connections(plain_world: World) -> None:
    world = plain_world
    token = world.token_of("other")
    with ExitStack() as stack:
        idle = [stack.enter_context(RawConnection(world.stack.tenant_url)) for _ in range(MANY)]
        for _ in range(20):
            data, answers = request(token=token), list[httpx.Response]()

            def placed(data: bytes = data, answers: list[httpx.Response] = answers) -> bool:
                answers.append(exchange(world.stack.tenant_url, data))
                return answers[-1].status_code == 201

            wait_until(placed, "an order of the other tenant")
            for answer in answers[:-1]:
                refused(answer, 503, "overloaded")
        assert len(world.placed) == 20
        words = [last_words(connection) for connection in idle]
    # The few that came when all connections were in use, this test's own among them, were told so.
    for answer in filter(None, words):
        refused(answer, 503, "overloaded")
    assert words.count(None) > MANY - 20


FEW: Final = ("tests.support.few_files", "64", "serve")


@pytest.fixture
def poor_world() -> Iterator[World]:
    """A gateway that may have 64 files and sockets open."""
    with a_world(budget__per_minute=0, program=FEW) as world:
        yield world


@row(
    65,
    fault="64 file descriptors, and more connections than that",
    answer="201, or 503 overloaded: nothing sent",
    holds="/healthz answers on the admin listener all the time, on the tenants' when there is room; re-sent, every "
    "order is placed once",
)
def test_row_65_sixty_four_descriptors(poor_world: World) -> None:
    world = poor_world
    room = next(
        line for line in world.stack.process.log if line["event"] == "limit" and line["listener"] == "tenant"
    )
    assert 1 <= room["count"] < 64
    with ExitStack() as stack:
        for _ in range(room["count"]):
            stack.enter_context(RawConnection(world.stack.tenant_url)).send(BEGUN)
        for _ in range(100):
            with RawConnection(world.stack.tenant_url) as connection:
                refused(connection.answer(), 503, "overloaded")
                assert connection.is_closed()
        assert world.admin("GET", "/healthz", token="").status_code == 200
    wait_until(lambda: exchange(world.stack.tenant_url, HEALTH).status_code == 200, "room again")
    keys = [uuid4().hex for _ in range(100)]
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda key: an_order_alone(world, key), keys))
    for answer in answers:
        if answer.status_code != 201:
            problem(answer, 503, "overloaded")
    for key, first in zip(keys, answers, strict=True):
        again = an_order_alone(world, key)
        assert again.status_code == 201
        assert ("idempotent-replayed" in again.headers) is (first.status_code == 201)
        assert taken(world, key) == [again.json()["orderId"]]


def an_order_alone(world: World, key: str) -> httpx.Response:
    """An order on a connection of its own, its key as its notes."""
    body = json.dumps(an_order(notes=key)).encode()
    return exchange(world.stack.tenant_url, request(f"Idempotency-Key: {key}", token=world.stack.token, body=body))


@row(
    65,
    part="none left at all while it runs",
    answer="503 overloaded at once, by the descriptor that is kept for it",
    holds="accepting goes on; served again when there is room",
)
def test_row_65_no_descriptor_left(world: World) -> None:
    pid = world.stack.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken_now = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(taken_now) + 1, before[1]))
    try:
        with ExitStack() as stack:
            connections = [stack.enter_context(RawConnection(world.stack.admin_url)) for _ in range(60)]
            refusals = [answer for connection in connections if (answer := last_words(connection))]
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert refusals
    for answer in refusals:
        refused(answer, 503, "overloaded")
    wait_until(lambda: exchange(world.stack.tenant_url, HEALTH).status_code == 200, "room again")
    others_are_served(world)
    assert not [line for line in world.stack.process.log if line["event"] == "library"]
