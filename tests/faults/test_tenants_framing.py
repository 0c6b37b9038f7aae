"""What tenants do with the bytes of requests: many at once, one inside another, too long, or not as announced."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from tests.accept.raw import RawConnection, exchange, request
from tests.accept.world import World, a_world, refused, what_was_told_is_true
from tests.faults.matrix import row
from tests.faults.seen import posts
from tests.support.stack import an_order

MIB: Final = 1 << 20
CHUNKED: Final = "Transfer-Encoding: chunked"
HEALTH: Final = b"GET /healthz HTTP/1.1\r\nHost: gateway\r\nX-Request-Id: smuggled\r\n\r\n"


@pytest.fixture(scope="module")
def the_world() -> Iterator[World]:
    with a_world(budget__per_minute=0, tenant_api__body_timeout_s=1) as world:
        yield world


@pytest.fixture
def world(the_world: World) -> Iterator[World]:
    """A gateway that waits 1 s for a body."""
    the_world.begin()
    yield the_world
    the_world.sandbox.clear_faults()
    what_was_told_is_true(the_world)


def most_memory(world: World) -> int:
    """The most bytes that the gateway's process has had in memory."""
    lines = Path(f"/proc/{world.stack.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


@row(
    76,
    fault="10 requests of several kinds in one write, slow ones before quick ones",
    answer="each its own, in their order",
    holds="no answer stands where another belongs; each order is placed once",
)
def test_row_76_ten_pipelined_requests(world: World) -> None:
    world.sandbox.set_fault("slow", after_s=0.1)
    token, ids = world.stack.token, [f"pipe-{number}-{uuid4().hex}" for number in range(10)]
    kinds = [
        ({"token": token}, 201),
        ({"first": "GET /healthz HTTP/1.1", "body": b"", "kind": None}, 200),
        ({"token": "ogt_wrong"}, 401),
        ({"first": "GET /orders?limit=1 HTTP/1.1", "token": token, "body": b"", "kind": None}, 200),
        ({"token": token, "body": b"{"}, 400),
    ]
    sent = [(request(f"X-Request-Id: {name}", **kinds[n % 5][0]), kinds[n % 5][1]) for n, name in enumerate(ids)]  # type: ignore[arg-type]  # several kinds of values
    with RawConnection(world.stack.tenant_url) as connection:
        connection.send(b"".join(data for data, _ in sent))
        for name, (_, status) in zip(ids, sent, strict=True):
            answer = connection.answer()
            assert (answer.headers["x-request-id"], answer.status_code) == (name, status)
    assert len(posts(world)) == len(world.placed) == 2


@row(
    76,
    part="requests without end in one connection, whose answers nobody takes",
    answer="no more of them are read than can be answered",
    holds="memory stays as it was; others are served",
)
def test_row_76_requests_without_end(world: World) -> None:
    before = most_memory(world)
    with RawConnection(world.stack.tenant_url) as connection:
        sent = connection.send_what_is_taken(HEALTH * (16 * MIB // len(HEALTH)), patience_s=2)
        assert sent < 16 * MIB
        assert world.order().status_code == 201
    assert most_memory(world) - before < 64 * MIB


SMUGGLED: Final = {
    "chunked, and a length": [CHUNKED, "Content-Length: 5"],
    "a length, and chunked": ["Content-Length: 5", CHUNKED],
    "a coding before chunked": ["Transfer-Encoding: gzip, chunked"],
    "chunked in disguise": ["Transfer-Encoding: xchunked", "Content-Length: 5"],
    "chunked behind a tab": ["Transfer-Encoding:\x0bchunked", "Content-Length: 5"],
    "two lengths": ["Content-Length: 5", f"Content-Length: {5 + len(HEALTH)}"],
    "two lengths on a line": [f"Content-Length: 5, {5 + len(HEALTH)}"],
    "a length of another number": ["Content-Length: +5"],
    "a folded coding": ["Transfer-Encoding:\r\n chunked"],
    "a space before the colon": ["Transfer-Encoding : chunked", "Content-Length: 5"],
    "a bare line feed": ["X: y\nTransfer-Encoding: chunked", "Content-Length: 5"],
}


@row(
    76,
    part="a POST whose framing can be read in two ways, with a GET in or behind its body",
    answer="400 bad-request, and the connection ends; nothing sent",
    holds="the GET has no answer",
)
@pytest.mark.parametrize("lines", SMUGGLED.values(), ids=SMUGGLED)
def test_row_76_smuggled_get(world: World, lines: list[str]) -> None:
    for body in (b"0\r\n\r\n" + HEALTH, b"5\r\n" + HEALTH[:5] + b"\r\n0\r\n\r\n" + HEALTH):
        data = request(*lines, token=world.stack.token, length=False, body=body)
        with RawConnection(world.stack.tenant_url) as connection:
            connection.send(data)
            answer = connection.answer()
            refused(answer, 400, "bad-request")
            assert answer.headers["x-request-id"] != "smuggled"
            assert connection.is_closed()
    assert not posts(world)


@row(76, part="a GET inside a POST's body, or behind it", answer="as their lengths say", holds="in their order")
def test_row_76_get_inside_and_behind_a_body(world: World) -> None:
    inside = json.dumps(an_order(notes=uuid4().hex)).encode() + b" " * 9
    for body, status in ((HEALTH, 400), (inside, 201)):
        with RawConnection(world.stack.tenant_url) as connection:
            connection.send(request("X-Request-Id: outer", token=world.stack.token, body=body) + HEALTH)
            answer = connection.answer()
            assert (answer.status_code, answer.headers["x-request-id"]) == (status, "outer")
            answer = connection.answer()
            assert (answer.status_code, answer.headers["x-request-id"]) == (200, "smuggled")
    assert len(posts(world)) == 1


@row(
    76,
    part="a chunked body with a trailer that looks like a header",
    answer="400 bad-request, and the connection ends",
    holds="a trailer is never a token, a key or an id",
)
def test_row_76_trailer(world: World) -> None:
    order = json.dumps(an_order(notes=uuid4().hex)).encode()
    body = b"%x\r\n%s\r\n0\r\nAuthorization: Bearer %s\r\n\r\n" % (len(order), order, world.stack.token.encode())
    for token in (world.stack.token, None):
        answer = exchange(world.stack.tenant_url, request(CHUNKED, token=token, length=False, body=body))
        assert answer.status_code in (400, 401)
        assert token is None or answer.status_code == 400
    assert not posts(world)


def test_trailer_without_end_is_cut(world: World) -> None:
    data = request(CHUNKED, token=world.stack.token, length=False, body=b"2\r\n{}\r\n0\r\nX-A: ")
    with RawConnection(world.stack.tenant_url) as connection:
        connection.send(data)
        with pytest.raises((ConnectionError, EOFError)):
            for _ in range(64):
                connection.send(b"a" * MIB)
            while connection.answer().status_code == 431:
                pass
    assert not posts(world)


@row(
    78,
    part="announced",
    fault="a body of 10 MiB",
    answer="413 body-too-large before it is read; nothing sent",
    holds="the connection is good for another request when the body has come; memory stays as it was",
)
def test_row_78_ten_mebibytes_announced(world: World) -> None:
    before = most_memory(world)
    data = request(f"Content-Length: {10 * MIB}", token=world.stack.token, length=False, body=b"")
    with RawConnection(world.stack.tenant_url) as connection:
        connection.send(data)
        refused(connection.answer(), 413, "body-too-large")
        for _ in range(10):
            connection.send(b"x" * MIB)
        connection.send(HEALTH)
        assert connection.answer().status_code == 200
    assert most_memory(world) - before < 5 * MIB
    assert not posts(world)


@row(
    78,
    part="in chunks without end",
    answer="413 body-too-large, and in the end the connection is closed",
)
def test_row_78_chunks_without_end(world: World) -> None:
    before = most_memory(world)
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with RawConnection(world.stack.tenant_url) as connection:
        connection.send(request(CHUNKED, token=world.stack.token, length=False, body=chunk * 5))
        refused(connection.answer(), 413, "body-too-large")
        with pytest.raises(ConnectionError):
            while True:
                connection.send(chunk)
    assert most_memory(world) - before < 5 * MIB
    assert not posts(world)


@row(
    78,
    part="shorter than announced",
    fault="a body that is not as long as its length says",
    answer="408 request-timeout, and the connection ends; nothing sent",
    holds="nothing is taken for the rest",
)
def test_row_78_shorter_than_announced(world: World) -> None:
    order = json.dumps(an_order(notes=uuid4().hex)).encode()
    data = request(f"Content-Length: {len(order) + 1000}", token=world.stack.token, length=False, body=order)
    with RawConnection(world.stack.tenant_url) as connection:
        connection.send(data + HEALTH)
        refused(connection.answer(), 408, "request-timeout")
        assert connection.is_closed()
    assert not posts(world)


@row(
    78,
    part="longer than announced",
    answer="the announced part is the body: 400 bad-request; then 400 for the rest, and the connection ends",
    holds="nothing sent",
)
def test_row_78_longer_than_announced(world: World) -> None:
    order = json.dumps(an_order(notes=uuid4().hex)).encode()
    data = request(f"Content-Length: {len(order) - 10}", token=world.stack.token, length=False, body=order)
    with RawConnection(world.stack.tenant_url) as connection:
        connection.send(data)
        refused(connection.answer(), 400, "bad-request")
        assert connection.is_closed()
    assert not posts(world)
