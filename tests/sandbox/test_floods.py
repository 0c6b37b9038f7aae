"""Answers that are odd, too slow or too large, seen from a raw socket."""

import gzip
import json
from collections.abc import Iterator

import pytest

from gateway.sandbox import SandboxThread
from tests.sandbox.tools import KEY, Wire, client, order_body, post_bytes, wire

MIB = 1024 * 1024


@pytest.fixture
def conn(sandbox: SandboxThread) -> Iterator[Wire]:
    with wire(sandbox) as found:
        yield found


@pytest.mark.parametrize("where", ["answer", "body"])
def test_trickle_writes_one_byte_at_a_time(sandbox: SandboxThread, conn: Wire, where: str) -> None:
    sandbox.set_fault("trickle", every_s=0.001, where=where)
    conn.send(post_bytes())
    answer = conn.answer()
    out = [chunk.size for chunk in sandbox.connections[0].chunks if chunk.direction == "out"]
    head = sum(out) - len(answer.body)
    assert answer.json()["orderId"] == sandbox.orders[0].order_id
    assert out == ([head] if where == "body" else [1] * head) + [1] * len(answer.body)


@pytest.mark.parametrize("where", ["body", "chunked"])
def test_huge_body_is_valid_json_of_that_size(sandbox: SandboxThread, where: str) -> None:
    size = 3 * MIB + 17
    sandbox.set_fault("huge", size=size, where=where)
    with client(sandbox) as http:
        answer = http.post("/reseller/orders", json=order_body())
    assert len(answer.content) == size
    assert answer.json()["orderId"] == sandbox.orders[0].order_id
    # Its bytes are counted, not kept.
    log = sandbox.connections[0]
    assert log.bytes_out > size
    assert len(log.raw("out")) < 1000


def test_huge_header(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("huge", size=MIB, where="header")
    conn.send(post_bytes())
    head = conn.until(b"\r\n\r\n")
    assert len(head) >= MIB
    assert json.loads(conn.take(int(head.rsplit(b": ", 1)[1])))["orderId"] == sandbox.orders[0].order_id


def test_gzip_bomb_is_small_on_the_wire_and_correct(sandbox: SandboxThread, conn: Wire) -> None:
    size = 10 * MIB + 5
    sandbox.set_fault("gzip_bomb", size=size)
    conn.send(post_bytes())
    answer = conn.answer()
    plain = gzip.decompress(answer.body)
    assert (answer.status, answer.headers["content-encoding"]) == (201, "gzip")
    assert len(answer.body) * 100 < size == len(plain)
    assert json.loads(plain)["orderId"] == sandbox.orders[0].order_id


@pytest.mark.parametrize("size", [0, 2, None])
def test_interim_responses_come_before_the_answer(sandbox: SandboxThread, conn: Wire, size: int | None) -> None:
    sandbox.set_fault("1xx_flood", **({} if size is None else {"size": size}))
    conn.send(post_bytes())
    count = 1000 if size is None else size
    assert [conn.head().status for _ in range(count)] == [100, 103] * (count // 2)
    assert conn.answer().json()["orderId"] == sandbox.orders[0].order_id


def test_html_page_of_a_proxy(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("html_4xx", code=403)
    conn.send(post_bytes())
    answer = conn.answer()
    assert (answer.status, answer.headers["content-type"]) == (403, "text/html")
    assert answer.body.startswith(b"<html>")
    assert sandbox.orders == []


def test_echo_key_shows_the_key_in_body_and_header(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("echo_key", code=422)
    conn.send(post_bytes())
    answer = conn.answer()
    assert (answer.status, answer.headers["x-echo-api-key"]) == (422, KEY)
    assert KEY in answer.json()["message"]
    assert sandbox.orders == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (503, b'{"statusCode":503,"message":"Sandbox fault","error":"Service Unavailable"}', None)),
        (
            {"code": 401},
            (401, b'{"statusCode":401,"message":"Unauthorized - invalid API key","error":"Unauthorized"}', None),
        ),
        ({"code": 401, "body": ""}, (401, b"", None)),
        ({"code": 429, "retry_after": "-1", "body": {"a": 1}}, (429, b'{"a":1}', "-1")),
        ({"code": 201, "body_base64": "/w=="}, (201, b"\xff", None)),
        ({"code": 499, "body": "plain", "content_type": "text/plain"}, (499, b"plain", None)),
    ],
)
def test_status_answers_as_told_and_places_nothing(
    sandbox: SandboxThread, conn: Wire, given: dict[str, object], expected: tuple[int, bytes, str | None]
) -> None:
    sandbox.set_fault("status", **given)
    conn.send(post_bytes())
    answer = conn.answer()
    assert (answer.status, answer.body, answer.headers.get("retry-after")) == expected
    assert answer.headers["content-type"] == given.get("content_type", "application/json; charset=utf-8")
    assert sandbox.orders == []


def test_status_can_place_and_name_the_order(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("status", code=200, place=True, body='{"orderId":"{orderId}","orderId":"{orderId}"}')
    conn.send(post_bytes())
    order_id = sandbox_order_id = conn.answer().json()["orderId"]
    assert [order.order_id for order in sandbox.orders] == [order_id] == [sandbox_order_id]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirect_points_elsewhere(sandbox: SandboxThread, conn: Wire, code: int) -> None:
    sandbox.set_fault("redirect", code=code, location="http://evil.test/")
    conn.send(post_bytes())
    answer = conn.answer()
    assert (answer.status, answer.headers["location"], sandbox.orders) == (code, "http://evil.test/", [])
