"""The sandbox behaves as OfferGrid's guides say, when nothing else is asked of it."""

import json
from typing import Any

import pytest

from gateway.sandbox import SandboxThread
from tests.sandbox.tools import KEY, client, order_body, place, post_bytes, wire


def test_order_is_taken_with_everything_that_came_with_it(sandbox: SandboxThread) -> None:
    raw = json.dumps(order_body(metadata={"a": [1, 2]}, surprise="kept")).encode()
    with wire(sandbox) as conn:
        conn.send(post_bytes(raw))
        answer = conn.answer()
    [order] = sandbox.orders
    body = answer.json()
    assert answer.status == 201
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["connection"] == "keep-alive"
    assert "date" in answer.headers
    assert "etag" not in answer.headers
    assert list(body) == ["orderId", "items", "createdAt"]
    assert body["orderId"] == order.order_id
    assert body["items"] == [
        {"itemId": body["items"][0]["itemId"], "offerId": "off-fiber-500", "status": "pending"}
    ]
    assert order.request.body == raw
    assert ("x-api-key", KEY) in order.request.headers
    assert order.request.headers[0] == ("Host", "offergrid.test")
    assert order.metadata == {"a": [1, 2]}
    assert order.request.received.monotonic_ns <= order.placed.monotonic_ns


@pytest.mark.parametrize(
    ("key", "status", "message"),
    [
        ("sandbox-key-anything", 200, None),
        ("sandbox-revoked-one", 401, "Unauthorized - invalid API key"),
        ("sandbox-provider-one", 403, "Forbidden - your team role does not allow this call"),
        ("something else", 401, "Unauthorized - invalid API key"),
        ("sandbox-key-", 401, "Unauthorized - invalid API key"),
        ("sandbox-key-a, sandbox-key-b", 401, "Unauthorized - invalid API key"),
        (None, 401, "Unauthorized - invalid API key"),
    ],
)
def test_name_of_a_key_decides(sandbox: SandboxThread, key: str | None, status: int, message: str | None) -> None:
    with client(sandbox) as http:
        http.headers.clear()
        answer = http.get("/reseller/orders", headers={} if key is None else {"x-api-key": key})
    error = {401: "Unauthorized", 403: "Forbidden"}
    assert answer.status_code == status
    if message is not None:
        assert answer.json() == {"statusCode": status, "message": message, "error": error[status]}


def test_given_keys_are_the_only_ones_and_may_share_an_account() -> None:
    with SandboxThread(keys={"first": "acme", "second": "acme", "third": "other"}) as sandbox:
        order_id = place(sandbox, key="first")
        with client(sandbox, "second") as http:
            assert [order["orderId"] for order in http.get("/reseller/orders").json()] == [order_id]
        with client(sandbox, "third") as http:
            assert http.get("/reseller/orders").json() == []
        with client(sandbox) as http:
            assert http.get("/reseller/orders").status_code == 401


def test_another_accounts_order_is_not_there(sandbox: SandboxThread) -> None:
    order_id = place(sandbox, key="sandbox-key-a")
    with client(sandbox, "sandbox-key-b") as http:
        assert http.get("/reseller/orders").json() == []
        assert http.get(f"/reseller/orders/{order_id}").status_code == 404
        assert http.patch(f"/reseller/orders/{order_id}/cancel").status_code == 404
    with client(sandbox, "sandbox-key-a") as http:
        assert http.get(f"/reseller/orders/{order_id}").json()["status"] == "pending"


def test_listing_is_newest_first_and_filtered_by_status(sandbox: SandboxThread) -> None:
    ids = [place(sandbox, metadata={"n": n}) for n in range(3)]
    with client(sandbox) as http:
        cancelled = http.patch(f"/reseller/orders/{ids[1]}/cancel", json={"reason": "changed my mind"})
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
        listed = http.get("/reseller/orders").json()
        assert [order["orderId"] for order in listed] == ids[::-1]
        assert [order["metadata"]["n"] for order in listed] == [2, 1, 0]
        only = http.get("/reseller/orders", params={"status": "cancelled"}).json()
        assert [order["orderId"] for order in only] == [ids[1]]
        assert http.patch(f"/reseller/orders/{ids[1]}/cancel").status_code == 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": None}, "items must be an array"),
        ({"items": [{"offerId": 5}]}, "items.0.offerId must be a string"),
        ({"items": [7]}, "nested property items.0 must be either object or array"),
        ({"serviceAddress": None}, "serviceAddress should not be null or undefined"),
        ({"customerInfo": {"fullName": "x", "email": "a@b"}}, "customerInfo.phone must be a string"),
        ({"notes": 1}, "notes must be a string"),
        ({"metadata": []}, "metadata must be an object"),
    ],
)
def test_bad_order_gets_the_list_of_its_faults(
    sandbox: SandboxThread, change: dict[str, Any], message: str
) -> None:
    with client(sandbox) as http:
        answer = http.post("/reseller/orders", json=order_body(**change))
    assert answer.status_code == 400
    assert answer.json() == {"statusCode": 400, "message": [message], "error": "Bad Request"}
    assert sandbox.orders == []


def test_other_refusals_of_an_order(sandbox: SandboxThread) -> None:
    customer = {**order_body()["customerInfo"], "email": "nobody"}
    with client(sandbox) as http:
        email = http.post("/reseller/orders", json=order_body(customerInfo=customer))
        missing = http.post("/reseller/orders", json=order_body(items=[{"offerId": "unavailable-1"}]))
        unread = http.post("/reseller/orders", content=b"{", headers={"content-type": "application/json"})
        untyped = http.post("/reseller/orders", content=json.dumps(order_body()))
        nowhere = http.get("/elsewhere")
    assert (email.status_code, email.json()) == (
        400,
        {"error": "Invalid email format", "field": "customerInfo.email"},
    )
    assert missing.status_code == 404
    assert missing.json() == {
        "statusCode": 404,
        "message": "One or more offers are not available to your team",
        "error": "Not Found",
    }
    assert (unread.status_code, untyped.status_code, nowhere.status_code) == (400, 400, 404)
    assert sandbox.orders == []


def test_body_is_read_as_node_reads_it(sandbox: SandboxThread) -> None:
    """Of duplicate members the last counts, long integers are rounded, what is infinite becomes null."""
    plain = json.dumps(order_body())[:-1].encode()
    metadata = b'{"big":12345678901234567890,"inf":1e999,"text":"\\ud800 \xff"}'
    with wire(sandbox) as conn:
        conn.send(post_bytes(plain + b',"metadata":{"first":true},"metadata":' + metadata + b"}"))
        assert conn.answer().status == 201
        conn.send(post_bytes(plain + b',"metadata":{"not":NaN}}'))
        assert conn.answer().status == 400
        conn.send(post_bytes(plain + b',"metadata":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}"))
        assert conn.answer().status == 400
    [order] = sandbox.orders
    assert order.metadata == {"big": 1.2345678901234567e19, "inf": None, "text": "\ud800 \ufffd"}
    with client(sandbox) as http:
        assert http.get("/reseller/orders").json()[0]["metadata"] == order.metadata


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("category=tv", {"off-tv-basic"}),
        ("search=fiber&minPrice=60", {"off-fiber-1000"}),
        ("category=internet&maxPrice=50&zipCode=94102", {"off-cable-200", "test-offer-id"}),
        ("category=internet&maxPrice=50&zipCode=10001", {"test-offer-id"}),
    ],
)
def test_catalogue_is_filtered(sandbox: SandboxThread, query: str, expected: set[str]) -> None:
    with client(sandbox) as http:
        assert {offer["id"] for offer in http.get(f"/reseller/catalog?{query}").json()} == expected
        assert http.get("/reseller/catalog?minPrice=cheap").status_code == 400
        assert http.get("/reseller/catalog/off-tv-basic").json()["price"] == 24.99
        assert http.get("/reseller/catalog/none").status_code == 404


def test_head_and_expect_are_answered_as_http_asks(sandbox: SandboxThread) -> None:
    with wire(sandbox) as conn:
        conn.send(b"HEAD /reseller/orders HTTP/1.1\r\nHost: x\r\nx-api-key: sandbox-key-h\r\n\r\n")
        assert conn.head().headers["content-length"] == "2"
        head, _, body = post_bytes().partition(b"\r\n\r\n")
        conn.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
        # Nothing is left over from the answer to HEAD.
        assert conn.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        conn.send(body)
        assert conn.answer().status == 201
