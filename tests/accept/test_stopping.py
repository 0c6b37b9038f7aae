"""Signals and floods that must not cost an order, or everybody's memory."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from gateway.sandbox import SandboxThread
from tests.faults import child_loop
from tests.support.stack import SERVE, Stack, an_order, running_stack


@pytest.fixture
def sandbox() -> Iterator[SandboxThread]:
    with SandboxThread() as running:
        yield running


def order_in_flight(stack: Stack, sandbox: SandboxThread) -> tuple[threading.Thread, list[httpx.Response]]:
    """An order that OfferGrid has and does not answer yet."""
    answers: list[httpx.Response] = []

    def ask() -> None:
        with stack.client() as client, suppress(httpx.TransportError):  # the gateway may go first
            answers.append(client.post("/orders", json=an_order()))

    asking = threading.Thread(target=ask)
    asking.start()
    while not sandbox.orders:
        threading.Event().wait(0.01)
    return asking, answers


def test_a_hangup_signal_cuts_no_order_off(sandbox: SandboxThread) -> None:
    with running_stack(upstream_base_url=sandbox.base_url) as stack:
        sandbox.set_fault("slow", after_s=30)
        asking, answers = order_in_flight(stack, sandbox)
        stack.process.signal(signal.SIGHUP)
        stack.process.wait_for("reload")
        sandbox.clear_faults()
        asking.join(30)
        assert [answer.status_code for answer in answers] == [201]


def test_a_second_signal_ends_the_patience(sandbox: SandboxThread) -> None:
    with running_stack(upstream_base_url=sandbox.base_url, upstream__timeout_s=20) as stack:
        sandbox.set_fault("place_then_hang")
        asking, _answers = order_in_flight(stack, sandbox)
        stack.process.signal(signal.SIGTERM)
        stack.process.wait_for("draining")
        stack.process.signal(signal.SIGTERM)
        # Without a second signal it would take the 20 s of the order: the limit is the test's own.
        assert stack.process.wait(15) == 0
        asking.join(30)
        stack.start()
        with stack.client() as client:
            (order,) = client.get("/orders").json()["orders"]
        assert order["outcome"] in ("unknown", "placed"), "it was looked for at the start"


def test_header_sections_without_an_end_are_cut_off(sandbox: SandboxThread) -> None:
    with running_stack(upstream_base_url=sandbox.base_url) as stack:
        url = httpx.URL(stack.tenant_url)
        before = resident_bytes(stack.process.pid)
        for flood in (b"x-filler: " + b"a" * 100 + b"\r\n", b"a"):
            with socket.create_connection((url.host, url.port or 0), timeout=30) as client:
                client.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: ")
                answer = flooded(client, flood * 1000)
            assert answer.startswith(b"HTTP/1.1 431 "), answer[:200]
            assert b"/problems/header-too-large" in answer
        assert resident_bytes(stack.process.pid) - before < 16 * 1024 * 1024


def test_a_large_body_behind_a_small_header_is_no_large_header(sandbox: SandboxThread) -> None:
    with running_stack(upstream_base_url=sandbox.base_url) as stack, stack.client() as client:
        for _ in range(3):
            answer = client.post("/orders", json=an_order(notes="n" * 200_000))
            assert answer.status_code == 201


def flooded(client: socket.socket, flood: bytes) -> bytes:
    """Sends 64 MiB, or as much as is taken; what was answered."""
    try:
        for _ in range(64 * 1024 * 1024 // len(flood)):
            client.sendall(flood)
    except OSError:
        pass
    found = b""
    try:
        while part := client.recv(65_536):
            found += part
    except OSError:
        pass
    return found


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


@pytest.mark.parametrize("loop", child_loop.LOOPS)
def test_a_process_that_lost_a_loop_does_not_go_on_without_it(loop: str, sandbox: SandboxThread) -> None:
    """It would look well, and follow no revocation any more. Its supervisor starts it anew."""
    with running_stack(
        upstream_base_url=sandbox.base_url,
        program=("tests.faults.child_loop", "serve"),
        beside=lambda _: {"ENDS": loop},
    ) as stack:
        with stack.client() as client:
            assert client.post("/orders", json=an_order()).status_code == 201
        assert stack.process.wait(30) == 1
        assert any("a defect of Ordergate: RuntimeError" in line.get("text", "") for line in stack.process.log)
        stack.program = SERVE
        stack.start()
        assert len(sandbox.orders) == 1
