"""The endpoints for tests: what they show, and what they refuse."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.sandbox import SandboxThread
from gateway.sandbox.faults import KINDS
from tests.sandbox.tools import KEY, client, order_body, place, post_bytes, wire


@pytest.fixture
def http(sandbox: SandboxThread) -> Iterator[httpx.Client]:
    with client(sandbox) as found:
        found.headers.pop("x-api-key")  # these endpoints need none
        yield found


def test_orders_are_shown_as_they_came(sandbox: SandboxThread, http: httpx.Client) -> None:
    raw = b'{"spacing" :  1.50,' + json.dumps(order_body(metadata={"a": 1})).encode()[1:]
    sandbox.set_fault("place_then_500")
    with wire(sandbox) as conn:
        conn.send(post_bytes(raw))
        conn.answer()
    [order] = http.get("/sandbox/orders").json()
    assert base64.b64decode(order["rawBodyBase64"]) == raw == order["rawBody"].encode()
    assert ["x-api-key", KEY] in order["headers"]
    assert (order["key"], order["account"], order["metadata"]) == (KEY, KEY, {"a": 1})
    assert (order["fault"], order["response"]["status"]) == ("place_then_500", 500)
    assert order["receivedMonotonicNs"] <= order["placedMonotonicNs"]
    assert order["receivedWallMs"] > 1_600_000_000_000


def test_connections_show_every_byte_with_its_time(sandbox: SandboxThread, http: httpx.Client) -> None:
    request = post_bytes()
    with wire(sandbox) as conn:
        conn.send(request[:50])
        conn.send(request[50:])
        conn.answer()
        [log] = http.get("/sandbox/connections").json()
    assert (log["closedBy"], log["closedWallMs"], log["requests"]) == (None, None, 1)
    sent = b"".join(base64.b64decode(c["base64"]) for c in log["chunks"] if c["direction"] == "in")
    got = b"".join(base64.b64decode(c["base64"]) for c in log["chunks"] if c["direction"] == "out")
    times = [chunk["monotonicNs"] for chunk in log["chunks"]]
    assert (sent, len(got)) == (request, log["bytesOut"])
    assert got.startswith(b"HTTP/1.1 201 Created\r\n")
    assert times == sorted(times)
    assert log["openedMonotonicNs"] <= times[0]


def test_asking_leaves_no_trace(sandbox: SandboxThread, http: httpx.Client) -> None:
    for path in ("orders", "connections", "calls", "faults"):
        assert http.get(f"/sandbox/{path}").status_code == 200
    assert http.get("/sandbox/connections").json() == []
    assert http.get("/sandbox/calls").json() == {}
    place(sandbox)
    assert len(http.get("/sandbox/connections").json()) == 1


def test_calls_show_those_that_placed_nothing_too(sandbox: SandboxThread, http: httpx.Client) -> None:
    sandbox.set_fault("reset_after_read")
    with wire(sandbox) as conn:
        conn.send(post_bytes(order_body(metadata={"gatewayOrderId": "one"})))
        with pytest.raises(ConnectionResetError):
            conn.sock.recv(1)
    place(sandbox, key="sandbox-key-other")
    calls = http.get("/sandbox/calls").json()
    [cut], [placed] = calls[KEY], calls["sandbox-key-other"]
    assert (cut["metadata"], cut["orderId"], cut["response"]) == ({"gatewayOrderId": "one"}, None, None)
    assert (cut["method"], cut["target"], cut["fault"]) == ("POST", "/reseller/orders", "reset_after_read")
    assert placed["orderId"] == sandbox.orders[0].order_id
    assert cut["receivedMonotonicNs"] <= cut["countedMonotonicNs"] <= placed["countedMonotonicNs"]


def test_reset_forgets_orders_calls_and_limits() -> None:
    with SandboxThread(per_minute=1) as sandbox, client(sandbox) as http:
        place(sandbox)
        assert http.get("/reseller/orders").status_code == 429
        assert http.delete("/sandbox/orders").status_code == 204
        assert http.get("/sandbox/orders").json() == []
        assert http.get("/sandbox/calls").json() == {}
        assert http.get("/reseller/orders").json() == []


def test_faults_are_set_shown_and_cleared(sandbox: SandboxThread, http: httpx.Client) -> None:
    set_ = http.post("/sandbox/faults", json={"kind": "status", "code": 500, "count": 3})
    assert set_.status_code == 201
    assert http.get("/sandbox/faults").json() == set_.json()
    assert set_.json() == [{"kind": "status", "code": 500, "count": 3, "remaining": 3}]
    assert http.delete("/sandbox/faults").status_code == 204
    assert http.get("/sandbox/faults").json() == []
    place(sandbox)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "nonsense"}, "unknown kind 'nonsense'; allowed kinds: " + ", ".join(KINDS)),
        ({}, "unknown kind None"),
        ({"kind": ["status"]}, "unknown kind ['status']"),
        ([], "a fault is a JSON object"),
        ({"kind": "place_late", "size": 1}, "unknown member size for kind place_late; allowed members: count,"),
        ({"kind": "status", "count": -1}, "count"),
        ({"kind": "status", "count": True}, "count"),
        ({"kind": "status", "code": 99}, "code"),
        ({"kind": "slow", "after_s": "1"}, "after_s"),
        ({"kind": "huge", "where": "trailer"}, "where must be one of body, header, chunked"),
        ({"kind": "list_page", "marker": "other"}, "marker"),
        ({"kind": "status", "match": {"host": "x"}}, "host"),
        ({"kind": "garbage", "body_base64": "!"}, "body_base64"),
    ],
)
def test_bad_faults_are_refused_with_what_is_allowed(
    sandbox: SandboxThread, http: httpx.Client, given: Any, said: str
) -> None:
    answer = http.post("/sandbox/faults", json=given)
    assert answer.status_code == 400
    assert said in answer.json()["message"]
    assert http.get("/sandbox/faults").json() == []
    if isinstance(given, dict) and isinstance(given.get("kind"), str):
        with pytest.raises(ValueError, match=re.escape(said.partition("; allowed")[0])):
            sandbox.set_fault(**given)


def test_unreadable_change_and_unknown_path_are_refused(http: httpx.Client) -> None:
    assert http.post("/sandbox/faults", content=b"{").status_code == 400
    assert http.post("/sandbox/faults", content=b"\xff").status_code == 400
    assert http.post("/sandbox/faults", content=b"[" * 100_000).status_code == 400
    assert http.get("/sandbox/nothing").status_code == 404
    assert http.post("/sandbox/nothing", json={}).status_code == 404
    assert http.put("/sandbox/faults", json={}).status_code == 404


def test_key_can_be_revoked_and_given_to_an_account(sandbox: SandboxThread, http: httpx.Client) -> None:
    order_id = place(sandbox)
    second = {"key": "sandbox-key-second", "account": KEY}
    assert http.post("/sandbox/keys", json=second).status_code == 204
    assert http.post("/sandbox/keys", json={"key": KEY, "state": "revoked"}).status_code == 204
    assert http.get("/reseller/orders", headers={"x-api-key": KEY}).status_code == 401
    listed = http.get("/reseller/orders", headers={"x-api-key": "sandbox-key-second"}).json()
    assert [order["orderId"] for order in listed] == [order_id]
    assert http.post("/sandbox/keys", json={"key": KEY, "state": "lost"}).status_code == 400
    assert http.post("/sandbox/keys", json=[]).status_code == 400


def test_order_can_be_moved_to_another_status(sandbox: SandboxThread, http: httpx.Client) -> None:
    order_id = place(sandbox)
    assert http.patch(f"/sandbox/orders/{order_id}", json={"status": "accepted"}).status_code == 200
    shown = http.get(f"/reseller/orders/{order_id}", headers={"x-api-key": KEY})
    assert shown.json()["status"] == "accepted"
    assert http.patch(f"/sandbox/orders/{order_id}", json={}).status_code == 400
    assert http.patch("/sandbox/orders/none", json={"status": "accepted"}).status_code == 404
