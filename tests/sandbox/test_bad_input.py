"""Whatever comes in, the sandbox answers or closes, and goes on."""

import logging
import socket
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.sandbox import SandboxThread
from tests.sandbox.tools import get_bytes, place, post_bytes, wire

_MUTATED = st.tuples(
    st.sampled_from([post_bytes(), get_bytes(), get_bytes("/sandbox/faults"), post_bytes() + get_bytes()]),
    st.lists(st.tuples(st.integers(0, 500), st.binary(max_size=4)), max_size=6),
)


def mutate(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    for at, put in changes:
        data = data[:at] + put + data[at + len(put) :]
    return data


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"this is not HTTP\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /reseller/orders HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000, 431),
        (b"POST /reseller/orders HTTP/1.1\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 4_300_000, 413),
    ],
)
def test_what_cannot_be_read_is_refused_and_the_connection_closed(
    sandbox: SandboxThread, sent: bytes, status: int
) -> None:
    with wire(sandbox) as conn:
        # The sandbox may close while it is still being sent to.
        with suppress(BrokenPipeError, ConnectionResetError):
            conn.send(sent)
        with suppress(ConnectionResetError):
            conn.all()
    out = sandbox.connections[0].raw("out")
    assert out.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in out
    place(sandbox)


def test_pipelined_requests_are_answered_in_their_order(sandbox: SandboxThread) -> None:
    sandbox.set_fault("slow", after_s=0.05)
    with wire(sandbox) as conn:
        conn.send(post_bytes() + get_bytes() + get_bytes("/nowhere") + b"nonsense\r\n\r\n" + get_bytes())
        placed, listed, nowhere, refused = (conn.answer() for _ in range(4))
        assert conn.all() == b""
    assert [placed.status, listed.status, nowhere.status, refused.status] == [201, 200, 404, 400]
    assert [order["orderId"] for order in listed.json()] == [placed.json()["orderId"]]


def test_many_pipelined_requests_wait_in_the_network(sandbox: SandboxThread) -> None:
    with SandboxThread(per_minute=0) as unlimited, wire(unlimited) as conn:
        conn.send(get_bytes() * 500)
        assert {conn.answer().status for _ in range(500)} == {200}


def test_connection_close_and_http_1_0_are_honoured(sandbox: SandboxThread) -> None:
    with wire(sandbox) as conn:
        conn.send(b"GET /reseller/orders HTTP/1.0\r\nx-api-key: sandbox-key-a\r\n\r\n")
        assert b"Connection: close\r\n\r\n[]" in conn.all()
    with wire(sandbox) as conn:
        conn.send(get_bytes()[:-2] + b"Connection: close\r\n\r\n" + get_bytes())
        assert conn.all().count(b"HTTP/1.1 200") == 1
    with wire(sandbox) as conn:
        conn.send(get_bytes()[:-2] + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\nPRI")
        assert conn.all().count(b"HTTP/1.1 200") == 1


def test_chunked_body_is_read(sandbox: SandboxThread) -> None:
    head, _, body = post_bytes().partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(body[i : i + 7]), body[i : i + 7]) for i in range(0, len(body), 7))
    with wire(sandbox) as conn:
        conn.send(b"\r\n".join(lines) + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert conn.answer().status == 201
    assert sandbox.orders[0].request.body == body


@given(made=_MUTATED)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_mutated_requests_never_hurt_it(
    sandbox: SandboxThread, caplog: pytest.LogCaptureFixture, made: tuple[bytes, list[tuple[int, bytes]]]
) -> None:
    with wire(sandbox) as conn, suppress(ConnectionResetError, BrokenPipeError):
        conn.send(mutate(*made))
        conn.sock.shutdown(socket.SHUT_WR)
        conn.all()
    with wire(sandbox) as conn:
        conn.send(get_bytes("/sandbox/faults"))
        assert conn.answer().status == 200
    assert caplog.records == []


def test_own_defect_is_one_line_in_the_log_and_a_500(
    sandbox: SandboxThread, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise LookupError("a defect")

    sandbox.call(lambda running: setattr(running._running(), "answer", broken))
    with caplog.at_level(logging.ERROR), wire(sandbox) as conn:
        conn.send(get_bytes())
        assert conn.answer().status == 500
    sandbox.set_fault("place_then_reset")
    with caplog.at_level(logging.ERROR), wire(sandbox) as conn:
        conn.send(post_bytes())
        assert conn.answer().status == 500
    assert [record.getMessage().split(": ", 2)[2] for record in caplog.records] == ["LookupError('a defect')"] * 2
