"""Faults that end, break off or delay an answer, seen from a raw socket."""

import json
import threading
from collections.abc import Iterator

import pytest

from gateway.sandbox import SandboxThread
from tests.sandbox.tools import Wire, client, order_body, place, post_bytes, wait_for_orders, wire

LATE_S = 0.3


@pytest.fixture
def conn(sandbox: SandboxThread) -> Iterator[Wire]:
    with wire(sandbox) as found:
        yield found


def test_new_connection_is_reset_before_anything_is_read(sandbox: SandboxThread) -> None:
    sandbox.set_fault("reset_before_read")
    # The reset may come while the client still thinks of connecting.
    with pytest.raises(ConnectionResetError), wire(sandbox) as conn:
        conn.sock.recv(1)
    assert (sandbox.calls, sandbox.connections[-1].bytes_in) == ([], 0)
    place(sandbox)


def test_kept_connection_is_reset_at_the_first_byte(sandbox: SandboxThread, conn: Wire) -> None:
    conn.send(post_bytes())
    assert conn.answer().status == 201
    sandbox.set_fault("reset_before_read")
    conn.send(b"P")
    with pytest.raises(ConnectionResetError):
        conn.sock.recv(1)
    assert len(sandbox.calls) == 1


def test_reset_before_read_with_a_match_lets_others_pass(sandbox: SandboxThread) -> None:
    sandbox.set_fault(
        "reset_before_read", match={"method": "POST", "path_prefix": "/reseller/orders", "key": "sandbox-key-x"}
    )
    with client(sandbox) as http:
        assert http.get("/reseller/orders").status_code == 200
        assert http.post("/reseller/orders", json=order_body()).status_code == 201
    with wire(sandbox) as conn:
        conn.send(post_bytes(key="sandbox-key-x"))
        with pytest.raises(ConnectionResetError):
            conn.sock.recv(1)
    assert len(sandbox.orders) == 1


def test_reset_after_headers_does_not_wait_for_the_body(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("reset_after_headers")
    head, _, _ = post_bytes().partition(b"\r\n\r\n")
    conn.send(head + b"\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        conn.sock.recv(1)
    [call] = sandbox.calls
    assert (call.fault, call.complete, sandbox.orders) == ("reset_after_headers", False, [])
    assert sandbox.connections[-1].closed_by == "reset_by_sandbox"


def test_reset_after_read_places_nothing(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("reset_after_read")
    conn.send(post_bytes())
    with pytest.raises(ConnectionResetError):
        conn.sock.recv(1)
    assert (sandbox.calls[0].complete, sandbox.orders) == (True, [])
    assert conn.rest == b""


def test_place_then_reset_places(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("place_then_reset")
    conn.send(post_bytes())
    with pytest.raises(ConnectionResetError):
        conn.sock.recv(1)
    [order] = sandbox.orders
    assert order.request.answer is None


def test_place_then_hang_ends_when_the_client_goes(sandbox: SandboxThread) -> None:
    sandbox.set_fault("place_then_hang")
    with wire(sandbox) as conn:
        conn.send(post_bytes())
        wait_for_orders(sandbox, 1)
        conn.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            conn.sock.recv(1)
    tick = threading.Event()
    while sandbox.connections[0].closed is None:
        tick.wait(0.01)
    assert sandbox.connections[0].closed_by == "closed_by_peer"
    assert sandbox.connections[0].bytes_out == 0


def test_hanging_connection_ends_when_the_sandbox_stops() -> None:
    with SandboxThread() as sandbox:
        sandbox.set_fault("place_then_hang")
        with wire(sandbox) as conn:
            conn.send(post_bytes())
            wait_for_orders(sandbox, 1)
            sandbox.stop()
            with pytest.raises(ConnectionResetError):
                conn.sock.recv(1)


def test_stop_reading_leaves_the_body_in_the_network(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("stop_reading")
    conn.send(b"POST /reseller/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 67108864\r\n\r\n")
    conn.sock.setblocking(False)
    sent = 0
    tick = threading.Event()
    while True:
        try:
            sent += conn.sock.send(b"x" * 65536)
        except BlockingIOError:
            tick.wait(0.2)
            try:
                conn.sock.send(b"x")
            except BlockingIOError:
                break
    assert sandbox.calls[0].fault == "stop_reading"
    assert sandbox.connections[0].bytes_in < sent < 67108864


def test_place_then_500(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("place_then_500")
    conn.send(post_bytes())
    answer = conn.answer()
    assert answer.status == 500
    assert answer.json() == {
        "statusCode": 500,
        "message": "Internal server error",
        "error": "Internal Server Error",
    }
    assert len(sandbox.orders) == 1


def test_place_late_hangs_up_first(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("place_late", after_s=LATE_S)
    conn.send(post_bytes())
    with pytest.raises(ConnectionResetError):
        conn.sock.recv(1)
    wait_for_orders(sandbox, 1)
    [order] = sandbox.orders
    closed = sandbox.connections[0].closed
    assert closed is not None
    assert order.placed.monotonic_ns > closed.monotonic_ns
    # asyncio's timers may fire early by the resolution of its clock.
    assert order.placed.monotonic_ns - order.request.counted.monotonic_ns >= (LATE_S - 0.01) * 1e9


def test_reset_forgets_what_was_to_be_placed_late(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("place_late", after_s=LATE_S)
    conn.send(post_bytes())
    with pytest.raises(ConnectionResetError):
        conn.sock.recv(1)
    sandbox.reset()
    sandbox.set_fault("slow", after_s=2 * LATE_S)
    place(sandbox, notes="the only one")  # answered long after the other would have been placed
    assert [order.data["notes"] for order in sandbox.orders] == ["the only one"]


@pytest.mark.parametrize("code", [401, 403, 408, 429, 500])
@pytest.mark.parametrize("after_s", [0, LATE_S])
def test_status_then_place(sandbox: SandboxThread, conn: Wire, code: int, after_s: float) -> None:
    sandbox.set_fault("status_then_place", code=code, after_s=after_s, retry_after=7)
    conn.send(post_bytes())
    answer = conn.answer()
    assert (answer.status, answer.json()["statusCode"], answer.headers["retry-after"]) == (code, code, "7")
    wait_for_orders(sandbox, 1)
    [order] = sandbox.orders
    assert order.request.answer is not None
    assert order.request.answer.status == code


def test_truncated_answer_ends_before_its_length(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("truncate")
    conn.send(post_bytes())
    head = conn.head()
    rest = conn.all()
    assert head.status == 201
    assert 0 < len(rest) < int(head.headers["content-length"])
    assert len(sandbox.orders) == 1


def test_truncate_says_how_much_is_sent_and_whether_it_is_placed(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("truncate", size=3, place=False)
    conn.send(post_bytes())
    conn.head()
    assert conn.all() == b'{"o'
    assert sandbox.orders == []


def test_wrong_length_sends_more_than_it_tells(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("wrong_length", size=5)
    conn.send(post_bytes())
    answer = conn.answer()
    whole = json.loads(answer.body + conn.take(5))
    assert (answer.status, whole["orderId"]) == (201, sandbox.orders[0].order_id)
    conn.send(post_bytes())
    assert conn.answer().status == 201


def test_garbage_is_no_http_and_closes(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("garbage")
    conn.send(post_bytes())
    assert b"this is no HTTP" in conn.all()
    assert len(sandbox.orders) == 1


def test_garbage_can_be_any_bytes(sandbox: SandboxThread, conn: Wire) -> None:
    """Bad framings, half closes and answers without a length are all bytes that a test can give itself."""
    sandbox.set_fault("garbage", body="HTTP/1.0 201 Created\r\n\r\n{orderId}", close=False)
    sandbox.set_fault("garbage", body_base64="/wA=", place=False)
    sandbox.set_fault("garbage", body="", place=False)
    conn.send(post_bytes())
    expected = b"HTTP/1.0 201 Created\r\n\r\nord-"
    assert conn.take(len(expected)) == expected
    assert conn.take(36).decode() == sandbox.orders[0].order_id.removeprefix("ord-")
    conn.send(post_bytes())
    assert conn.all() == b"\xff\x00"
    with wire(sandbox) as second:
        second.send(post_bytes())
        assert second.all() == b""
    assert len(sandbox.orders) == 1


def test_extra_bytes_follow_a_correct_answer(sandbox: SandboxThread, conn: Wire) -> None:
    sandbox.set_fault("extra_bytes")
    conn.send(post_bytes())
    first, second = conn.answer(), conn.answer()
    assert first.json()["orderId"] == sandbox.orders[0].order_id
    assert (second.status, second.json()["orderId"]) == (201, "ord-early-0000")
