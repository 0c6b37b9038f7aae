"""Starting, stopping, and leaving nothing behind."""

import asyncio
import gc
import os
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.sandbox import Sandbox, SandboxThread, serve
from tests.sandbox.tools import GUARD_S, place, post_bytes

LATE_S = 0.1
HANGING = ("place_then_hang", "stop_reading", "slow", "trickle", "place_late", "refuse")


def open_files() -> int:
    return len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))


async def _hang(kind: str) -> None:
    """Starts, has a fault going on and an idle connection, and stops."""
    sandbox = Sandbox()
    await sandbox.start()
    idle_reader, idle = await asyncio.open_connection("127.0.0.1", sandbox.port)
    reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.port)
    sandbox.set_fault(kind, **({"every_s": 3_600} if kind == "trickle" else {}))
    writer.write(post_bytes())
    while not sandbox.calls:  # noqa: ASYNC110  the sandbox tells nobody what it received
        await asyncio.sleep(0)
    await sandbox.stop()
    for one in (reader, idle_reader):
        with suppress(ConnectionResetError):
            await one.read()
    for other in (writer, idle):
        other.close()
    assert all(log.closed is not None for log in sandbox.connections)


@pytest.mark.parametrize("kind", HANGING)
def test_stop_leaves_no_task_and_no_socket(kind: str) -> None:
    async def run() -> None:
        before = open_files()
        await _hang(kind)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert left == set()
        # The test's own sockets are closed in the loop's next rounds.
        while open_files() > before:  # noqa: ASYNC110  the kernel's table has no event
            await asyncio.sleep(0)

    asyncio.run(run(), debug=True)
    gc.collect()


def test_stop_calls_off_what_was_to_be_placed_late() -> None:
    async def run() -> None:
        sandbox = Sandbox()
        await sandbox.start()
        sandbox.set_fault("place_late", after_s=LATE_S)
        reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.port)
        writer.write(post_bytes())
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
        await sandbox.stop()
        # A loop runs its timers in their order: the placement would come before this one.
        later = asyncio.Event()
        asyncio.get_running_loop().call_later(2 * LATE_S, later.set)
        await later.wait()
        assert sandbox.orders == []

    asyncio.run(run())


@pytest.mark.parametrize("rounds", range(6))
def test_stop_ends_a_connection_however_far_its_acceptance_got(rounds: int) -> None:
    async def run() -> None:
        sandbox = Sandbox()
        await sandbox.start()
        with socket.create_connection(("127.0.0.1", sandbox.port)) as sock:
            sock.setblocking(False)
            for _ in range(rounds):
                await asyncio.sleep(0)
            await sandbox.stop()
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1), GUARD_S)
        assert all(log.closed is not None for log in sandbox.connections)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_stop_twice_and_before_start_is_nothing() -> None:
    async def run() -> None:
        sandbox = Sandbox()
        await sandbox.stop()
        with pytest.raises(RuntimeError, match="not started"):
            sandbox.set_fault("status")
        await sandbox.start()
        await sandbox.stop()
        await sandbox.stop()

    asyncio.run(run())


def test_taken_port_is_an_oserror() -> None:
    with SandboxThread() as first:
        with pytest.raises(OSError, match="in use"), SandboxThread(port=first.port):
            pass
        place(first)


def test_port_can_be_used_again_at_once() -> None:
    with SandboxThread() as first:
        place(first)
        port = first.port
    with SandboxThread(port=port) as second:
        place(second)
        assert second.base_url == f"http://127.0.0.1:{port}"


def test_serve_runs_until_it_is_cancelled() -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        task = asyncio.create_task(serve("127.0.0.1", port))
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()

    asyncio.run(run())


def test_two_sandboxes_share_nothing() -> None:
    with SandboxThread() as first, SandboxThread() as second:
        first.set_fault("status", count=0)
        place(second)
        assert (len(first.orders), len(second.orders)) == (0, 1)
