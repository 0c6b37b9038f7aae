"""Which headers go where: none of the tenant's to OfferGrid, no key to anybody else, the same few on every answer."""

import re
from typing import Final

import pytest

from gateway.sandbox.thread import SandboxThread
from tests.accept.raw import exchange, request
from tests.accept.world import World, about_order
from tests.support.stack import UPSTREAM_KEY

# What the gateway says to OfferGrid, and what HTTP itself needs for it.
SENT: Final = {"x-api-key", "content-type", "accept-encoding", "x-request-id", "traceparent"}
FRAMING: Final = {"host", "content-length", "connection", "accept", "user-agent"}
CANARY: Final = "canary-of-the-tenant"
FOREIGN: Final = [
    f"Cookie: session={CANARY}", f"X-Forwarded-For: {CANARY}", f"X-Forwarded-Host: {CANARY}",
    f"Forwarded: for={CANARY}",
    f"X-Real-IP: {CANARY}", f"Via: 1.1 {CANARY}", f"Baggage: a={CANARY}", f"Tracestate: a={CANARY}",
    f"User-Agent: {CANARY}", f"Referer: {CANARY}", f"Origin: https://{CANARY}", f"Proxy-Authorization: {CANARY}",
    f"X-Http-Method-Override: {CANARY}", f"Idempotency-Key: {CANARY}", f"idempotency_key: {CANARY}",
    f"X_Api_Key: {CANARY}",
    f"If-Match: {CANARY}", f"Prefer: {CANARY}", f"Accept-Language: {CANARY}", f"Keep-Alive: {CANARY}",
    f"Trailer: {CANARY}",
    f"TE: {CANARY}", f"X-{CANARY}: 1", f"Base-Url: http://{CANARY}", "Accept-Encoding: gzip, br", "Accept: */*",
    "Connection: keep-alive, x-api-key, traceparent, idempotency-key, content-length, host",
]  # fmt: skip


def test_none_of_the_tenants_headers_reaches_offergrid(world: World) -> None:
    asked = request(*FOREIGN, token=world.stack.token)
    answer = exchange(world.stack.tenant_url, asked)
    assert answer.status_code == 201
    (call,) = world.calls
    names = [name.lower() for name, _ in call.headers]
    assert len(names) == len(set(names))
    assert set(names) >= SENT
    assert set(names) <= SENT | FRAMING
    assert call.header("x-api-key") == UPSTREAM_KEY
    assert call.header("content-type") == "application/json"
    assert call.header("accept-encoding") == "identity"
    assert call.header("host") == f"127.0.0.1:{world.sandbox.port}"
    assert call.target == "/reseller/orders"
    raw = b"".join(log.raw("in") for log in world.sandbox.connections if log.number == call.connection)
    assert CANARY.encode() not in raw
    assert world.stack.token.encode() not in raw
    # And what `connection` named was applied all the same.
    again = exchange(world.stack.tenant_url, asked)
    assert again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("line", ["idempotency_key: k", "Idempotency-Key-X: k", "X-Idempotency-Key: k"])
def test_only_the_header_itself_is_the_key(world: World, line: str) -> None:
    answer = exchange(world.stack.tenant_url, request(line, token=world.stack.token))
    assert answer.status_code == 201
    assert world.shown(answer.headers["ordergate-order-id"])["idempotencyKey"] is None


def test_underscores_make_no_token(world: World) -> None:
    data = request(f"x_api_key: {world.stack.token}")
    assert exchange(world.stack.tenant_url, data).status_code == 401


def test_x_api_key_alone_is_a_token_as_at_offergrid(world: World) -> None:
    data = request(f"X-API-KEY: {world.stack.token}", first="POST /reseller/orders HTTP/1.1")
    assert exchange(world.stack.tenant_url, data).status_code == 201


@pytest.mark.parametrize("own", ["a", "A-Z_0.9", "x" * 128])
def test_own_request_id_is_kept(world: World, own: str) -> None:
    answer = exchange(world.stack.tenant_url, request(f"X-Request-Id: {own}", token=world.stack.token))
    assert answer.headers["x-request-id"] == own
    assert world.calls[0].header("x-request-id") == own


@pytest.mark.parametrize("lines", [
    ("X-Request-Id: " + "x" * 129,), ("X-Request-Id: a b",), ("X-Request-Id:",), ("X-Request-Id: a/b",),
    ("X-Request-Id: \xe9",), ("X-Request-Id: a\x1b[31m",), ("X-Request-Id: a%0d%0aSet-Cookie: a=b",),
    ("X-Request-Id: one", "X-Request-Id: two"), ("X-Request-Id: {}\"',;",),
])  # fmt: skip
def test_odd_request_id_is_replaced(world: World, lines: tuple[str, ...]) -> None:
    answer = exchange(world.stack.tenant_url, request(*lines, token=world.stack.token))
    if answer.status_code == 400:  # the parser itself takes no control characters
        assert "\x1b" in lines[0]
        return
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert world.calls[0].header("x-request-id") == answer.headers["x-request-id"]
    assert "set-cookie" not in answer.headers


TRACE: Final = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(("parent", "flags"), [
    (f"00-{TRACE}-b7ad6b7169203331-01", "01"), (f"00-{TRACE}-b7ad6b7169203331-00", "00"),
    (f"00-{TRACE}-b7ad6b7169203331-ff", "03"), (f"01-{TRACE}-b7ad6b7169203331-01-later", "01"),
    (f"cc-{TRACE}-b7ad6b7169203331-01", "01"),
])  # fmt: skip
def test_trace_is_continued(world: World, parent: str, flags: str) -> None:
    answer = exchange(world.stack.tenant_url, request(f"Traceparent: {parent}", token=world.stack.token))
    version, trace, span, told = answer.headers["traceparent"].split("-")
    assert (version, trace, told) == ("00", TRACE, flags)
    assert span != "b7ad6b7169203331", "the gateway's own part"
    assert world.calls[0].header("traceparent") == answer.headers["traceparent"]


@pytest.mark.parametrize("lines", [
    (), ("Traceparent: nonsense",), (f"Traceparent: 00-{TRACE}-b7ad6b7169203331",),
    (f"Traceparent: 00-{TRACE}-b7ad6b7169203331-01-x",), (f"Traceparent: ff-{TRACE}-b7ad6b7169203331-01",),
    (f"Traceparent: 00-{TRACE.upper()}-b7ad6b7169203331-01",), (f"Traceparent: 00-{'0' * 32}-b7ad6b7169203331-01",),
    (f"Traceparent: 00-{TRACE}-{'0' * 16}-01",), (f"Traceparent: 01-{TRACE}-b7ad6b7169203331-01.x",),
    (f"Traceparent: 00-{TRACE}-b7ad6b7169203331-01", f"Traceparent: 00-{TRACE}-b7ad6b7169203331-01"),
])  # fmt: skip
def test_trace_is_begun_anew(world: World, lines: tuple[str, ...]) -> None:
    answer = exchange(world.stack.tenant_url, request(*lines, token=world.stack.token))
    assert answer.status_code == 201, "a malformed trace is no error"
    version, trace, _, flags = answer.headers["traceparent"].split("-")
    assert (version, flags) == ("00", "01")
    assert trace != TRACE
    assert world.calls[0].header("traceparent") == answer.headers["traceparent"]


def test_server_timing_tells_the_two_parts(world: World) -> None:
    world.sandbox.set_fault("slow", after_s=0.2)
    sent = _timing(world.order().headers["server-timing"])
    assert sent[1] >= 200
    assert sent[0] > 0
    nothing_sent = _timing(world.ask("GET", "/healthz").headers["server-timing"])
    assert nothing_sent[1] == 0


def _timing(header: str) -> tuple[float, float]:
    found = re.fullmatch(r"gateway;dur=([\d.]+), upstream;dur=([\d.]+)", header)
    assert found is not None
    return float(found[1]), float(found[2])


@pytest.mark.parametrize("code", [400, 404, 422, 500, 200])
def test_echoed_key_is_in_no_answer(world: World, code: int) -> None:
    world.sandbox.set_fault("echo_key", code=code)
    answer = world.order(f"echo-{code}", notes="same")
    again = world.order(f"echo-{code}", notes="same")
    shown = world.ask("GET", answer.headers["location"])
    for told in (answer, again, shown, world.ask("GET", "/orders")):
        assert UPSTREAM_KEY not in told.text
        assert UPSTREAM_KEY not in str(told.headers)
    assert "***" in answer.text


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(world: World, code: int) -> None:
    with SandboxThread(per_minute=0, per_hour=0) as other:
        world.sandbox.set_fault("redirect", code=code, location=f"{other.base_url}/reseller/orders")
        about_order(world, world.order(), 502, "outcome-unknown", "unknown")
        assert not other.connections, "nobody else ever hears of the key"


def test_secrets_are_in_no_log_metric_or_description(world: World) -> None:
    world.order("canary-key-of-the-tenant", notes="canary-text-of-the-customer")
    world.order(metadata={"note": "canary-text-of-the-customer"}, token=world.stack.token)
    world.ask("GET", "/orders?limit=1")
    told = str(world.stack.process.log) + world.admin("GET", "/metrics").text + world.ask("GET", "/docs").text
    for secret in (
        world.stack.token, UPSTREAM_KEY, world.stack.admin_token,
        "canary-key-of-the-tenant", "canary-text-of-the-customer",
    ):  # fmt: skip
        assert secret not in told
