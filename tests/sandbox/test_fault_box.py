"""Faults of the time between requests, of the port, and how faults are counted."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from gateway.sandbox import SandboxThread
from gateway.sandbox.faults import KINDS
from tests.sandbox.tools import KEY, Wire, client, get_bytes, order_body, place, post_bytes, wait_for_orders, wire

LATE_S = 0.3


@pytest.fixture
def conn(sandbox: SandboxThread) -> Iterator[Wire]:
    with wire(sandbox) as found:
        yield found


def test_early_answer_comes_unasked_on_an_idle_connection(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("early_answer")
    conn.send(post_bytes())
    assert conn.answer().json()["orderId"] == sandbox.orders[0].order_id
    assert conn.answer().json()["orderId"] == "ord-early-0000"
    conn.send(post_bytes())
    assert conn.answer().json()["orderId"] == sandbox.orders[1].order_id


def test_early_answer_at_accept_comes_before_any_request(sandbox: SandboxThread) -> None:
    sandbox.set_fault("early_answer", where="accept")
    with wire(sandbox) as conn:
        assert conn.answer().json()["orderId"] == "ord-early-0000"
        conn.send(post_bytes())
        assert conn.answer().json()["orderId"] == sandbox.orders[0].order_id


def test_idle_connection_is_closed_without_warning() -> None:
    with SandboxThread(idle_s=3_600) as sandbox, wire(sandbox) as conn:
        sandbox.set_fault("idle_close", after_s=0.05)
        conn.send(post_bytes())
        answer = conn.answer()
        assert (answer.status, answer.headers["connection"]) == (201, "keep-alive")
        assert answer.headers["keep-alive"] == "timeout=3600"
        assert conn.all() == b""
        assert sandbox.connections[0].closed_by == "idle_timeout"


def test_idle_connection_is_closed_as_node_does() -> None:
    with SandboxThread(idle_s=0.05) as sandbox, wire(sandbox) as conn:
        conn.send(get_bytes())
        assert conn.answer().status == 200
        assert conn.all() == b""


def test_slow_answers_when_the_faults_are_cleared(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("slow", after_s=3_600)
    conn.send(post_bytes())
    wait_for_orders(sandbox, 1)
    assert sandbox.connections[0].bytes_out == 0
    sandbox.clear_faults()
    assert conn.answer().status == 201


def test_refuse_closes_the_port_and_opens_the_same_again(sandbox: SandboxThread, conn: Wire) -> None:
    conn.send(get_bytes())
    assert conn.answer().status == 200  # a connection that is not accepted yet would be reset
    sandbox.set_fault("refuse", after_s=LATE_S)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", sandbox.port))
    conn.send(post_bytes())
    assert conn.answer().status == 201
    tick = threading.Event()
    while True:
        try:
            place(sandbox)
            break
        except ConnectionRefusedError:
            tick.wait(0.01)
    assert len(sandbox.orders) == 2


def test_connections_on_their_way_are_never_left_hanging(sandbox: SandboxThread) -> None:
    """When the port closes each is either served or reset, however far its acceptance has got."""
    for _ in range(50):
        with suppress(ConnectionResetError, ConnectionRefusedError, BrokenPipeError), wire(sandbox) as conn:
            sandbox.set_fault("refuse", after_s=0)
            conn.send(get_bytes())
            assert conn.answer().status in {200, 429}


def test_sandbox_stops_while_it_refuses() -> None:
    with SandboxThread() as sandbox:
        sandbox.set_fault("refuse", after_s=3_600)
    with socket.create_server(("127.0.0.1", sandbox.port)) as again:
        assert again.getsockname()[1] == sandbox.port


def test_only_requests_that_fit_count_down(sandbox: SandboxThread) -> None:
    sandbox.set_fault("status", count=2, code=503)
    sandbox.set_fault("status", match={"method": "GET", "path_prefix": "/reseller/catalog"}, code=500)
    sandbox.set_fault("status", match={"key": "sandbox-key-other"}, code=401)
    with client(sandbox) as http:
        assert http.get("/reseller/orders").status_code == 200
        assert [fault["remaining"] for fault in http.get("/sandbox/faults").json()] == [2, 1, 1]
        codes = [http.post("/reseller/orders", json=order_body()).status_code for _ in range(3)]
        assert codes == [503, 503, 201]
        assert http.get("/reseller/catalog/off-tv-basic").status_code == 500
        assert http.get("/reseller/orders", headers={"x-api-key": "sandbox-key-other"}).status_code == 401
        assert http.get("/sandbox/faults").json() == []


def test_count_0_lasts_until_cleared(sandbox: SandboxThread) -> None:
    sandbox.set_fault("status", count=0)
    with client(sandbox) as http:
        assert {http.post("/reseller/orders", json=order_body()).status_code for _ in range(5)} == {503}
        assert http.get("/sandbox/faults").json()[0]["remaining"] is None
        sandbox.clear_faults()
        assert http.post("/reseller/orders", json=order_body()).status_code == 201


_QUICK = {"trickle": {"every_s": 0}, "refuse": {"after_s": 0}, "huge": {"size": 5_000_000}}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_played_once_and_leaves_the_sandbox_well(sandbox: SandboxThread, kind: str) -> None:
    before = place(sandbox)
    sandbox.set_fault(kind, **_QUICK.get(kind, {}))
    if kind != "refuse":
        with suppress(ConnectionResetError, BrokenPipeError), wire(sandbox) as conn:
            conn.send(get_bytes() if kind.startswith("list_") else post_bytes())
            tick = threading.Event()
            while sandbox.call(lambda running: running.faults_left):
                tick.wait(0.01)
        assert sandbox.call(lambda running: running.faults_left) == []
    tick = threading.Event()
    while True:
        try:
            after = place(sandbox, key=KEY)
            break
        except ConnectionRefusedError:
            tick.wait(0.01)
    assert {before, after} <= {order.order_id for order in sandbox.orders}


def test_requests_to_the_sandbox_itself_are_never_hit(sandbox: SandboxThread) -> None:
    everything = {"method": "GET", "path_prefix": "/"}
    with client(sandbox) as http:
        assert http.get("/sandbox/faults").json() == []
        sandbox.set_fault("reset_before_read")
        sandbox.set_fault("status", match=everything)
        assert len(http.get("/sandbox/faults").json()) == 2
