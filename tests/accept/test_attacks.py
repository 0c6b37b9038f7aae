"""Attacks on the listeners, as bytes on a socket. Each is refused or comes to nothing, and costs no order."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from uuid import uuid4

import pytest

from tests.accept.raw import BODY, RawConnection, exchange, request
from tests.accept.world import World, refused
from tests.support.stack import an_order

POST: Final = "POST /orders HTTP/1.1"
CHUNKED: Final = "Transfer-Encoding: chunked"

# What two parsers could read in two ways, and what no parser should read at all: 400, and the connection ends.
FRAMING: Final[dict[str, dict[str, Any]]] = {
    "two lengths that differ": {"lines": ["Content-Length: 5"]},
    "two lengths that agree": {"lines": [f"Content-Length: {len(BODY)}"]},
    "length with a sign": {"lines": ["Content-Length: +5"], "length": False},
    "negative length": {"lines": ["Content-Length: -5"], "length": False},
    "hexadecimal length": {"lines": ["Content-Length: 0x5"], "length": False},
    "list of lengths": {"lines": ["Content-Length: 5, 5"], "length": False},
    "empty length": {"lines": ["Content-Length:"], "length": False},
    "length with a space inside": {"lines": ["Content-Length: 1 2"], "length": False},
    "length beyond 64 bits": {"lines": ["Content-Length: 99999999999999999999"], "length": False},
    "chunked and a length": {"lines": [CHUNKED]},
    "unknown transfer coding": {"lines": ["Transfer-Encoding: xchunked"], "length": False},
    "chunked is not last": {"lines": ["Transfer-Encoding: chunked, gzip"], "length": False},
    "a coding beside chunked": {
        "lines": ["Transfer-Encoding: gzip, chunked"], "length": False, "body": b"2\r\n{}\r\n0\r\n\r\n",
    },
    "chunked on two lines": {"lines": [CHUNKED, CHUNKED], "length": False, "body": b"0\r\n\r\n"},
    "chunked with a parameter": {"lines": [f"{CHUNKED};q=1"], "length": False, "body": b"0\r\n\r\n"},
    "chunked in HTTP/1.0": {
        "first": "POST /orders HTTP/1.0", "lines": [CHUNKED], "length": False, "body": b"0\r\n\r\n",
    },
    "empty transfer coding": {"lines": ["Transfer-Encoding:"], "length": False, "body": b"0\r\n\r\n"},
    "LF in a chunk's extension": {"lines": [CHUNKED], "length": False, "body": b"2;a\n{}\r\n0\r\n\r\n"},
    "LF behind a chunk": {"lines": [CHUNKED], "length": False, "body": b"2\r\n{}\n0\r\n\r\n"},
    "a trailer": {
        "lines": [CHUNKED], "length": False, "body": b"2\r\n{}\r\n0\r\nIdempotency-Key: behind\r\n\r\n",
    },
    "no host": {"host": None},
    "two hosts": {"lines": ["Host: gateway"]},
    "a path in the host": {"host": "Host: a/healthz?"},
    "chunk size is no number": {"lines": [CHUNKED], "length": False, "body": b"zz\r\n{}\r\n0\r\n\r\n"},
    "chunk lines end with LF": {"lines": [CHUNKED], "length": False, "body": b"2\n{}\n0\n\n"},
    "chunk is longer than it says": {"lines": [CHUNKED], "length": False, "body": b"1\r\n{}\r\n0\r\n\r\n"},
    "negative chunk": {"lines": [CHUNKED], "length": False, "body": b"-1\r\n{}\r\n0\r\n\r\n"},
    "huge chunk size": {"lines": [CHUNKED], "length": False, "body": b"f" * 20 + b"\r\n{}"},
    "empty header name": {"lines": [": b"]},
    "space before the colon": {"lines": ["X-A : b"]},
    "no colon": {"lines": ["X-A"]},
    "NUL in a value": {"lines": ["X-A: a\0b"]},
    "CR in a value": {"lines": ["X-A: a\rb"]},
    "folded line": {"lines": ["X-A: b\r\n c"]},
    "control character in a name": {"lines": ["X\x01A: b"]},
    "NUL in the path": {"first": b"POST /ord\0ers HTTP/1.1"},
    "bytes beyond ASCII in the path": {"first": "POST /\u00f6rders HTTP/1.1".encode()},
    "a space in the path": {"first": "POST /orders x HTTP/1.1"},
    "a fragment": {"first": "POST /orders#x HTTP/1.1"},
    "unknown method": {"first": "BREW /orders HTTP/1.1"},
    "lower-case method": {"first": "post /orders HTTP/1.1"},
    "HTTP/1.2": {"first": "POST /orders HTTP/1.2"},
    "HTTP/3": {"first": "POST /orders HTTP/3.0"},
    "no version": {"first": "GET /healthz", "kind": None, "body": b"", "host": None, "length": False},
    "HTTP/2 preface": {"first": "PRI * HTTP/2.0", "kind": None, "body": b"SM\r\n\r\n", "host": None, "length": False},
    "CONNECT": {"first": "CONNECT evil.example:443 HTTP/1.1", "body": b""},
    "h2c": {"lines": ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"]},
    "websocket": {"lines": ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]},
    "TLS": {"first": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "body": b""},
}  # fmt: skip


@pytest.mark.parametrize("attack", FRAMING.values(), ids=FRAMING)
def test_what_could_be_read_in_two_ways_is_refused(world: World, attack: dict[str, Any]) -> None:
    lines = attack.get("lines", [])
    data = request(*lines, **{"token": world.stack.token, **{k: v for k, v in attack.items() if k != "lines"}})
    for url in (world.stack.tenant_url, world.stack.admin_url):
        with RawConnection(url) as connection:
            connection.send(data)
            answer = connection.answer()
            if url == world.stack.tenant_url or answer.status_code == 400:
                refused(answer, 400, "bad-request")
                assert answer.headers["connection"] == "close"
                assert connection.is_closed()
    assert not world.calls


def test_bare_line_feeds_are_no_request(world: World) -> None:
    data = request(token=world.stack.token).replace(b"\r\n", b"\n")
    refused(exchange(world.stack.tenant_url, data), 400, "bad-request")
    assert not world.calls


def test_pipelined_orders_are_answered_in_their_order(world: World) -> None:
    with RawConnection(world.stack.tenant_url) as connection:
        keys = [f"pipe-{number}" for number in range(10)]
        connection.send(b"".join(request(f"Idempotency-Key: {key}", token=world.stack.token) for key in keys))
        answers = [connection.answer() for _ in keys]
    for key, answer in zip(keys, answers, strict=True):
        assert answer.status_code == 201
        assert world.shown(answer.headers["ordergate-order-id"])["idempotencyKey"] == key
    assert len(world.placed) == 10


@pytest.mark.parametrize("rest", [
    b"\x00\x01 nonsense\r\n\r\n", b"GET /orders HTTP/9.9\r\n\r\n", b"POST /orders HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
])  # fmt: skip
def test_unreadable_bytes_behind_an_order_are_not_answered_in_its_place(world: World, rest: bytes) -> None:
    """A 400 that came first would be taken for the order's answer, while the order is placed."""
    world.sandbox.set_fault("slow", after_s=0.1)
    with RawConnection(world.stack.tenant_url) as connection:
        connection.send(request(token=world.stack.token) + rest)
        answer = connection.answer()
        assert answer.status_code == 201
        assert answer.headers["ordergate-order-id"] == world.placed[0].metadata["gatewayOrderId"]  # type: ignore[index]  # there is metadata
        assert connection.is_closed()
    assert len(world.placed) == 1


def test_order_is_not_told_400_where_a_pipelined_ones_body_breaks(world: World) -> None:
    world.sandbox.set_fault("slow", after_s=0.1)
    broken = request(CHUNKED, token=world.stack.token, length=False, body=b"zz\r\n")
    with RawConnection(world.stack.tenant_url) as connection:
        order = request("Idempotency-Key: broken-pipe", token=world.stack.token)
        connection.send(order + broken)
        with pytest.raises(EOFError):
            connection.answer()
    again = exchange(world.stack.tenant_url, order)
    assert again.status_code in (201, 409)
    assert len(world.placed) <= 1


def test_body_of_a_refused_request_is_not_read_as_a_request(world: World) -> None:
    """Smuggling: a whole order inside another request's body."""
    inner = request("Idempotency-Key: smuggled", token=world.stack.token)
    for kind in ("text/plain", "application/json"):
        with RawConnection(world.stack.tenant_url) as connection:
            connection.send(request(token=world.stack.token, kind=kind, body=inner))
            assert connection.answer().status_code in (400, 415)
            connection.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.answer().json() == {"status": "ok"}
    assert not world.calls


PATHS: Final = (
    "//orders", "/orders/", "/./orders", "/x/../orders", "/orders/..", "/orders/.", "/orders/../admin",
    "/%2e%2e/orders", "/orders%2f", "/%6frders", "/orders%00", "/orders%20", "/orders;x", "/orders;/x", "/orders\\",
    "/\\orders", "/Orders",
    "/orders/%2e%2e/metrics", "/reseller//orders", "/reseller/orders/..", "/orders/a/../b", "*",
    "/orders/a%2fb", "/orders,",
    "/admin", "/admin/tenants", "/console", "/metrics", "/.git/config", "/.env", "/orders/;admin",
    "/@orders", "/orders|",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_itself_or_nothing(world: World, path: str) -> None:
    for method in ("POST", "GET"):
        data = request(first=f"{method} {path} HTTP/1.1", token=world.stack.token)
        answer = exchange(world.stack.tenant_url, data)
        assert answer.status_code in (400, 404), path
        refused(answer, answer.status_code, "bad-request" if answer.status_code == 400 else "not-found")
    assert not world.calls


@pytest.mark.parametrize("lines", [
    ("X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https"), ("Base-Url: http://evil.example",),
    ("X-Original-URL: /admin", "X-Rewrite-URL: /metrics"), ("X-HTTP-Method-Override: GET", "X-Method-Override: DELETE"),
])  # fmt: skip
@pytest.mark.parametrize("first", [
    POST, "POST http://evil.example/orders HTTP/1.1", "POST /orders?base_url=http://evil.example&_method=GET HTTP/1.1",
])  # fmt: skip
def test_no_request_says_where_the_key_goes(world: World, first: str, lines: tuple[str, ...]) -> None:
    body = json.dumps(
        an_order(base_url="http://evil.example", api_base="http://evil.example", notes=uuid4().hex)
    ).encode()
    answer = exchange(world.stack.tenant_url, request(*lines, first=first, token=world.stack.token, body=body))
    assert answer.status_code == 201
    assert world.calls[0].header("host") == f"127.0.0.1:{world.sandbox.port}"


SQL: Final = (
    "' OR 1=1--", "'; DROP TABLE orders;--", "\" OR \"\"=\"", "1) UNION SELECT 1--", "') OR ('1'='1",
    "%27--", "\\'; --",
    "admin'/*", "x' AND 1=CAST((SELECT 1) AS int)--", "'||(SELECT 1)||'", "$1", "?1", ":tenant_id",
    "0x27", "`", "\u02bc",
)  # fmt: skip


@pytest.mark.parametrize("text", SQL)
def test_sql_is_text_like_any_other(world: World, text: str) -> None:
    line = text.encode("utf-8").decode("latin-1")
    for shown in (line, f"ogt_{line}_{'a' * 52}"):
        answer = exchange(world.stack.tenant_url, request(f"Authorization: Bearer {shown}"))
        refused(answer, 401, "unauthorized")
    for name in ("outcome", "cursor", "limit", text):
        refused(world.ask("GET", "/orders", params={name: text}), 400, "bad-request")
    key = text.replace(" ", "_")
    if key.isascii() and not key.startswith('"'):
        answer = world.order(key)
        assert answer.status_code == 201
        assert world.shown(answer.headers["ordergate-order-id"])["idempotencyKey"] == key
    members: dict[str, Any] = {"notes": text, "metadata": {text: text}, text: [text]}
    assert world.order(**members).status_code == 201
    assert world.ask("GET", "/orders?limit=1").json()["orders"][0]["response"]["orderId"]


def test_deep_and_wide_bodies_are_answered_quickly_and_the_rest_is_served(world: World) -> None:
    """One size of each kind that has blown up a parser somewhere; what is bounded is what others wait meanwhile."""
    collisions = ",".join(f'"{number * (2**61 - 1)}":0' for number in range(8_000))
    bombs = [
        b"[" * 200_000, b'{"a":' * 40_000, b'{"metadata":{' + collisions.encode() + b"}}",
        b'"' + b"\\u0061" * 40_000 + b'"',
        BODY[:-1] + b',"x":' + b"9" * 200_000 + b"}", BODY[:-1] + b',"x":1e' + b"9" * 200_000 + b"}",
        BODY[:-1] + b',"x":[' + b"1," * 100_000 + b"1]}", b'{"items":[' + b"{}," * 60_000 + b"{}]}", b" " * 262_144,
    ]  # fmt: skip
    for bomb in bombs:
        answer = world.ask("POST", "/orders", content=bomb, headers={"content-type": "application/json"})
        assert answer.status_code in (201, 400, 422), answer.text[:200]
        if answer.status_code == 422:
            assert len(answer.json()["errors"]) <= 100
    assert world.ask("GET", "/healthz").status_code == 200


def test_body_in_many_small_chunks(world: World) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
    data = request(CHUNKED, token=world.stack.token, length=False, body=chunks)
    assert exchange(world.stack.tenant_url, data).status_code == 201


def test_parallel_duplicates_are_one_order(world: World) -> None:
    """Forty connections whose last byte goes out at the same moment."""
    data = request("Idempotency-Key: race", token=world.stack.token)
    connections = [RawConnection(world.stack.tenant_url) for _ in range(40)]
    try:
        for connection in connections:
            connection.send(data[:-1])
        for connection in connections:
            connection.send(data[-1:])
        answers = [connection.answer() for connection in connections]
    finally:
        for connection in connections:
            connection.__exit__(None, None, None)
    assert {answer.status_code for answer in answers} <= {201, 409}
    told = {answer.headers["ordergate-order-id"] for answer in answers}
    assert len(told) == len(world.calls) == len(world.placed) == 1
    firsts = [
        answer for answer in answers if answer.status_code == 201 and "idempotent-replayed" not in answer.headers
    ]
    assert len(firsts) == 1


def test_hanging_up_changes_nothing_for_an_order_in_flight(world: World) -> None:
    world.sandbox.set_fault("slow", after_s=0.2)
    data = request("Idempotency-Key: hung-up", token=world.stack.token)
    with RawConnection(world.stack.tenant_url) as connection:
        connection.send(data)
        until = time.monotonic() + 30
        while not world.calls and time.monotonic() < until:
            time.sleep(0.005)
    answers = [exchange(world.stack.tenant_url, data)]
    while answers[-1].status_code == 409:
        answers.append(exchange(world.stack.tenant_url, data))
    assert answers[-1].status_code == 201
    assert len(world.placed) == 1


def test_what_is_logged_stays_one_line_each(world: World) -> None:
    """Whatever a tenant writes, a line of the log is one JSON object: the fixture's end fails on any other."""
    evil = b"X-Request-Id: " + "a\u2028b\x85c".encode()
    exchange(world.stack.tenant_url, request(evil, token=world.stack.token))
    world.order(notes="a\r\nb\x1b[31m\u2028", metadata={"a\nb": "\x1b"})
    world.ask("GET", "/orders", params={"a\r\nb": "\x1b[31m"})
    world.sandbox.set_fault("status", code=400, body={"message": "a\r\nb\x1b[31m\u2028"})
    world.order()
    assert not [line for line in world.stack.process.log if line["event"] == "text"]


def test_wrong_tokens_do_not_lock_out_the_right_one(world: World) -> None:
    def wrong(number: int) -> int:
        return world.admin("GET", "/docs", token=f"{number:064x}").status_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(wrong, range(200))) == {401}
    assert world.admin("GET", "/docs").status_code == 200
