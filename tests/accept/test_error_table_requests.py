"""The error table's rows for requests that are refused before anything is an order. One test a row and way to it."""

import json
from typing import Any, Final

import pytest

from tests.accept.raw import BODY, RawConnection, exchange, request
from tests.accept.world import World, refused
from tests.support.stack import an_order

JSON: Final = {"content-type": "application/json"}
UNREADABLE: Final = {
    "empty": b"",
    "no JSON": b"{'items': []}",
    "cut off": BODY[:-1],
    "something behind": BODY + b"{}",
    "an array": b"[]",
    "a string": b'"order"',
    "a comment": BODY + b"// so",
    "NaN": BODY[:-1] + b',"x":NaN}',
    "Infinity": BODY[:-1] + b',"x":-Infinity}',
    "leading zero": BODY[:-1] + b',"x":01}',
    "bad UTF-8": BODY[:-1] + b',"notes":"\xff"}',
    "overlong UTF-8": BODY[:-1] + b',"notes":"\xc0\xaf"}',
    "a surrogate in UTF-8": BODY[:-1] + b',"notes":"\xed\xa0\x80"}',
    "byte order mark": b"\xef\xbb\xbf" + BODY,
    "UTF-16": BODY.decode().encode("utf-16"),
    "control character": BODY[:-1] + b',"notes":"a\x01"}',
    "lone surrogate": BODY[:-1] + b',"notes":"\\ud800"}',
    "lone surrogate as a name": BODY[:-1] + b',"metadata":{"\\udfff":1}}',
    "surrogates the wrong way round": BODY[:-1] + b',"metadata":{"a":["\\udc00\\ud800"]}}',
    "duplicate": BODY[:-1] + b',"items":[]}',
    "duplicate in metadata": BODY[:-1] + b',"metadata":{"a":1,"a":2}}',
    "duplicate far down": BODY[:-1] + b',"x":[{"y":{"z":[1,{"a":1,"b":2,"a":1}]}}]}',
    "duplicate by escape": BODY[:-1] + b',"metadata":{"a":1,"\\u0061":1}}',
    "duplicate unknown": BODY[:-1] + b',"x":1,"x":1}',
    "65 levels": BODY[:-1] + b',"x":' + b"[" * 64 + b"]" * 64 + b"}",
    "65 levels of objects": BODY[:-1] + b',"metadata":' + b'{"a":' * 64 + b"1" + b"}" * 64 + b"}",
    "100,000 levels": b"[" * 100_000,
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_400_bad_request_unreadable_json(world: World, body: bytes) -> None:
    refused(world.ask("POST", "/orders", content=body, headers=JSON), 400, "bad-request")
    assert not world.calls


def test_nesting_of_64_is_read(world: World) -> None:
    body = BODY[:-1] + b',"x":' + b"[" * 63 + b"]" * 63 + b"}"
    assert world.ask("POST", "/orders", content=body, headers=JSON).status_code == 201


BAD_KEYS: Final = {
    "empty": b"",
    "256 characters": b"k" * 256,
    "a space": b"a b",
    "a tab": b"a\tb",
    "not ASCII": "é".encode(),
    "latin-1": b"\xe9",
    "quote alone": b'"',
    "quotes alone": b'""',
    "no end": b'"abc',
    "a parameter": b'"abc";a=1',
    "something behind": b'"abc"d',
    "two strings": b'"a", "b"',
    "a quote inside": b'"a"b"',
    "bad escape": b'"a\\b"',
    "escape at the end": b'"a\\"',
    "a space inside": b'"a b"',
    "256 inside": b'"' + b"k" * 256 + b'"',
    "a byte sequence inside quotes": b'"\xff"',
}


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
def test_400_bad_request_malformed_idempotency_key(world: World, key: bytes) -> None:
    answer = exchange(world.stack.tenant_url, request(b"Idempotency-Key: " + key, token=world.stack.token))
    refused(answer, 400, "bad-request")
    assert not world.calls


@pytest.mark.parametrize("second", ["Idempotency-Key: one", "idempotency-key: two", "Idempotency-Key:"])
def test_400_bad_request_second_idempotency_key(world: World, second: str) -> None:
    data = request("Idempotency-Key: one", second, token=world.stack.token)
    refused(exchange(world.stack.tenant_url, data), 400, "bad-request")


@pytest.mark.parametrize("lines", [
    ("X-Api-Key: other",), ("X-Api-Key:",), ("Authorization: Bearer other",), ("Authorization: Basic b3RoZXI=",),
    ("Authorization: Bearer {own}",), ("X-Api-Key: {own}", "X-Api-Key: {own}"),
])  # fmt: skip
def test_400_bad_request_two_tokens(world: World, lines: tuple[str, ...]) -> None:
    own = world.stack.token
    data = request(*(line.format(own=own) for line in lines), token=own)
    refused(exchange(world.stack.tenant_url, data), 400, "bad-request")
    assert not world.calls


def test_same_token_both_ways_is_one_token(world: World) -> None:
    data = request(f"X-Api-Key: {world.stack.token}", token=world.stack.token)
    assert exchange(world.stack.tenant_url, data).status_code == 201


@pytest.mark.parametrize(
    "host",
    [
        None,
        "Host: a\r\nHost: b",
        "Host: a/healthz?",
        "Host: a b",
        "Host: a@b:1",
        "Host: a:b",
        "Host: [a",
        "Host: \xff",
    ],
)
def test_400_bad_request_hosts(world: World, host: str | None) -> None:
    refused(exchange(world.stack.tenant_url, request(host=host, token=world.stack.token)), 400, "bad-request")
    assert not world.calls


def test_401_unauthorized(world: World) -> None:
    own = world.stack.token
    head, secret = own.rsplit("_", 1)
    revoked, expired = _revoked(world), _expired(world)
    shown: dict[str, dict[str, str]] = {
        "missing": {},
        "malformed": {"authorization": "Bearer nonsense"},
        "empty": {"authorization": "Bearer "},
        "another scheme": {"authorization": f"Basic {own}"},
        "unknown": {"authorization": f"Bearer ogt_{'a' * 10}_{secret}"},
        "wrong secret": {"authorization": f"Bearer {head}_{'a' * 52}"},
        "longer": {"authorization": f"Bearer {own}a"},
        "revoked": {"authorization": f"Bearer {revoked}"},
        "expired": {"authorization": f"Bearer {expired}"},
        "in x-api-key": {"x-api-key": f"{head}_{'a' * 52}"},
        "admin's": {"authorization": f"Bearer {world.stack.admin_token}"},
    }
    told = []
    for name, headers in shown.items():
        for method, path in (
            ("POST", "/orders"),
            ("POST", "/reseller/orders"),
            ("GET", "/orders"),
            ("GET", "/orders/x"),
        ):
            lines = [f"{header}: {value}" for header, value in headers.items()]
            answer = exchange(world.stack.tenant_url, request(*lines, first=f"{method} {path} HTTP/1.1"))
            found = refused(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer", name
            del found["requestId"]
            told.append(json.dumps(found))
    assert len(set(told)) == 1, "the same for every reason"
    assert not world.calls


def _revoked(world: World) -> str:
    with world.stack.administration() as admin:
        issued = admin.issue_token("shop")
        world.wait_for_token(issued.token.text())
        admin.revoke_token(issued.record.token_id)
    world.wait_for_token(issued.token.text(), status=401)
    return issued.token.text()


def _expired(world: World) -> str:
    with world.stack.administration() as admin:
        token = admin.issue_token("shop", expires_in_s=1).token.text()
    world.wait_for_token(token)
    world.wait_for_token(token, status=401)
    return token


def test_403_tenant_suspended(world: World) -> None:
    token = world.token_of("suspended")
    with world.stack.administration() as admin:
        admin.set_tenant_state("suspended", "suspended")
    world.wait_for_token(token, status=403)
    refused(world.order(token=token), 403, "tenant-suspended")
    refused(world.ask("GET", "/orders", token=token), 403, "tenant-suspended")
    with world.stack.administration() as admin:
        admin.set_tenant_state("suspended", "active")
    world.wait_for_token(token)
    assert world.order(token=token).status_code == 201


@pytest.mark.parametrize("path", [
    "/", "/order", "/orders/", "/orders/a/b", "/ORDERS", "/reseller", "/reseller/orders/a", "/admin/teams", "/metrics",
    "/problems", "/problems/no-such-type", "/docs/", "/openapi.yaml", "/console",
])  # fmt: skip
def test_404_not_found(world: World, path: str) -> None:
    refused(world.ask("GET", path), 404, "not-found")


@pytest.mark.parametrize(("path", "allow"), [
    ("/orders", "GET, POST"), ("/reseller/orders", "POST"), ("/orders/x", "GET"), ("/healthz", "GET"),
    ("/readyz", "GET"),     ("/openapi.json", "GET"), ("/docs", "GET"), ("/problems/not-found", "GET"),
])  # fmt: skip
def test_405_method_not_allowed(world: World, path: str, allow: str) -> None:
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - set(allow.split(", ")):
        data = request(first=f"{method} {path} HTTP/1.1", token=world.stack.token)
        answer = exchange(world.stack.tenant_url, data, body=method != "HEAD")
        assert answer.headers["allow"] == allow
        if method != "HEAD":
            refused(answer, 405, "method-not-allowed")
    assert not world.calls


@pytest.mark.parametrize("accept", ["text/html", "application/xml, text/*", "application/json;q=0", "image/*;q=1"])
def test_406_not_acceptable(world: World, accept: str) -> None:
    refused(world.ask("POST", "/orders", json=an_order(), headers={"accept": accept}), 406, "not-acceptable")
    assert not world.calls


@pytest.mark.parametrize(
    "accept", ["*/*", "application/*", "text/html, application/json;q=0.1", "APPLICATION/JSON", ""]
)
def test_accepted_media_types(world: World, accept: str) -> None:
    assert world.ask("POST", "/orders", json=an_order(notes=accept), headers={"accept": accept}).status_code == 201


def test_408_request_timeout(hasty: World) -> None:
    with RawConnection(hasty.stack.tenant_url) as connection:
        connection.send(
            request(f"Content-Length: {len(BODY)}", token=hasty.stack.token, body=BODY[:-1], length=False)
        )
        answer = connection.answer()
        refused(answer, 408, "request-timeout")
        assert answer.headers["connection"] == "close"
        assert connection.is_closed()
    assert not hasty.calls


def test_413_body_too_large_declared(world: World) -> None:
    with RawConnection(world.stack.tenant_url) as connection:
        # Told before a byte of the body was sent.
        connection.send(request("Content-Length: 262145", token=world.stack.token, body=b"", length=False))
        refused(connection.answer(), 413, "body-too-large")
    huge = request(f"Content-Length: {10**17}", token=world.stack.token, body=b"", length=False)
    refused(exchange(world.stack.tenant_url, huge), 413, "body-too-large")


def test_413_body_too_large_chunked_without_end(world: World) -> None:
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    with RawConnection(world.stack.tenant_url) as connection:
        connection.send(
            request("Transfer-Encoding: chunked", token=world.stack.token, body=chunk * 17, length=False)
        )
        refused(connection.answer(), 413, "body-too-large")


def test_body_of_the_largest_size_is_read(world: World) -> None:
    body = BODY + b" " * (262_144 - len(BODY))
    assert world.ask("POST", "/orders", content=body, headers=JSON).status_code == 201
    refused(world.ask("POST", "/orders", content=body + b" ", headers=JSON), 413, "body-too-large")


@pytest.mark.parametrize("size", [4_097, 60_000, 70_000])
def test_414_uri_too_long(world: World, size: int) -> None:
    data = request(first=b"GET /orders?" + b"a" * (size - 7) + b" HTTP/1.1", token=world.stack.token, body=b"")
    refused(exchange(world.stack.tenant_url, data), 414, "uri-too-long")


@pytest.mark.parametrize("kind", [
    None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "application/jsonp",
    "application/json; charset=iso-8859-1", "application/merge-patch+json", "multipart/form-data; boundary=a", "",
])  # fmt: skip
def test_415_unsupported_media_type(world: World, kind: str | None) -> None:
    data = request(token=world.stack.token, kind=kind)
    refused(exchange(world.stack.tenant_url, data), 415, "unsupported-media-type")
    assert not world.calls


@pytest.mark.parametrize("coding", ["gzip", "br", "identity", "x", "gzip, gzip"])
def test_415_unsupported_media_type_any_content_encoding(world: World, coding: str) -> None:
    data = request(f"Content-Encoding: {coding}", token=world.stack.token)
    refused(exchange(world.stack.tenant_url, data), 415, "unsupported-media-type")
    assert not world.calls


@pytest.mark.parametrize("kind", ["application/json;charset=UTF-8", 'Application/JSON; charset="utf-8"'])
def test_media_types_of_json_in_utf_8(world: World, kind: str) -> None:
    assert exchange(world.stack.tenant_url, request(token=world.stack.token, kind=kind)).status_code == 201


def test_417_expectation_failed(world: World) -> None:
    data = request("Expect: 200-ok", token=world.stack.token)
    refused(exchange(world.stack.tenant_url, data), 417, "expectation-failed")
    with RawConnection(world.stack.tenant_url) as connection:
        connection.send(request("Expect: 100-continue", token=world.stack.token)[: -len(BODY)])
        assert connection.answer().status_code == 100
        connection.send(BODY)
        assert connection.answer().status_code == 201


def test_431_header_too_large(world: World) -> None:
    one = request("X-Padding: " + "a" * 16_384, token=world.stack.token)
    many = request(*[f"X-{number}: a" for number in range(3000)], token=world.stack.token)
    for data in (one, many):
        refused(exchange(world.stack.tenant_url, data), 431, "header-too-large")
    assert not world.calls


def _without(path: str) -> dict[str, Any]:
    body = an_order()
    *way, last = path.split("/")
    holder: Any = body
    for step in way:
        holder = holder[int(step) if step.isdigit() else step]
    del holder[last]
    return body


REQUIRED: Final = (
    "items", "serviceAddress", "customerInfo", "items/0/offerId", "serviceAddress/street", "serviceAddress/city",
    "serviceAddress/state", "serviceAddress/zipCode", "serviceAddress/country", "customerInfo/fullName",
    "customerInfo/email", "customerInfo/phone",
)  # fmt: skip


@pytest.mark.parametrize("path", REQUIRED)
def test_422_invalid_order_missing_member(world: World, path: str) -> None:
    found = refused(world.ask("POST", "/orders", json=_without(path)), 422, "invalid-order")
    assert [fault["pointer"] for fault in found["errors"]] == [f"/{path}"]


def test_422_invalid_order_all_faults_at_once(world: World) -> None:
    body = {
        "items": [{"offerId": "a"}, {"offerId": None}, {}, "b"],
        "serviceAddress": {"street": 1, "city": "", "state": [], "zipCode": {}},
        "customerInfo": None,
        "notes": None,
        "metadata": [],
        "gatewayish": "unknown members are no fault",
    }
    found = refused(world.ask("POST", "/orders", json=body), 422, "invalid-order")
    assert {fault["pointer"] for fault in found["errors"]} == {
        "/items/1/offerId", "/items/2/offerId", "/items/3", "/serviceAddress/street", "/serviceAddress/state",
        "/serviceAddress/zipCode", "/serviceAddress/country", "/customerInfo", "/notes", "/metadata",
    }  # fmt: skip
    assert all(fault["detail"] for fault in found["errors"])
    assert not world.calls


@pytest.mark.parametrize("value", [None, [], "text", 1, True])
def test_422_invalid_order_metadata_is_no_object(world: World, value: object) -> None:
    found = refused(world.ask("POST", "/orders", json=an_order(metadata=value)), 422, "invalid-order")
    assert [fault["pointer"] for fault in found["errors"]] == ["/metadata"]


def test_422_invalid_order_metadata_over_64_kib(world: World) -> None:
    frame = len('{"a":""}')
    fits = an_order(metadata={"a": "é" * ((65_536 - frame) // 2)})
    body = json.dumps(fits, ensure_ascii=False, separators=(",", ":"))
    assert world.ask("POST", "/orders", content=body.encode(), headers=JSON).status_code == 201
    larger = body.replace("é", "éa", 1)
    found = refused(world.ask("POST", "/orders", content=larger.encode(), headers=JSON), 422, "invalid-order")
    assert [fault["pointer"] for fault in found["errors"]] == ["/metadata"]


@pytest.mark.parametrize(
    "name", ["gatewayOrderId", "gateway", "GATEWAYX", "GateWayClaim", "gateway/~x", "gatewaY\u00e9"]
)
def test_422_reserved_metadata(world: World, name: str) -> None:
    found = refused(
        world.ask("POST", "/orders", json=an_order(metadata={"a": 1, name: 2})), 422, "reserved-metadata"
    )
    escaped = name.replace("~", "~0").replace("/", "~1")
    assert [fault["pointer"] for fault in found["errors"]] == [f"/metadata/{escaped}"]
    assert not world.calls


@pytest.mark.parametrize("name", [r"gateway\u004frderId", r"\u0067ateway", r"G\u0041teway1", r"gatew\u0061\u0079"])
def test_422_reserved_metadata_however_it_is_escaped(world: World, name: str) -> None:
    body = BODY[:-1] + b',"metadata":{"' + name.encode() + b'":1}}'
    refused(world.ask("POST", "/orders", content=body, headers=JSON), 422, "reserved-metadata")
    assert not world.calls


def test_gateway_is_reserved_at_the_beginning_and_in_metadata_alone(world: World) -> None:
    answer = world.order(gatewayOrderId="mine", metadata={"myGateway": 1, "a": {"gatewayOrderId": 2}, "gatewa": 3})
    assert answer.status_code == 201


def test_400_idempotency_key_required(world: World) -> None:
    token = world.token_of("strict", require_idempotency_key=True)
    refused(world.order(token=token), 400, "idempotency-key-required")
    assert not world.calls
    assert world.order("a-key", token=token).status_code == 201


def test_422_idempotency_key_reused(world: World) -> None:
    first = world.order("reused", notes="one")
    assert first.status_code == 201
    refused(world.order("reused", notes="two"), 422, "idempotency-key-reused")
    refused(world.order('"reused"', notes="two"), 422, "idempotency-key-reused")
    assert world.order("reused", notes="one").headers["idempotent-replayed"] == "true"
    assert len(world.placed) == 1
