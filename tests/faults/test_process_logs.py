"""Where the log goes is closed, full or blocked: the orders do not notice."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from gateway.sandbox import SandboxThread
from tests.accept.world import wait_until
from tests.faults.matrix import row
from tests.support.stack import SERVE, Stack, an_order, outer_environ, running_stack

ORDERS: Final = 60
"""At `debug` their lines are far more than the pipe of one page holds."""


@contextmanager
def closed() -> Iterator[dict[str, Any]]:
    def close_both() -> None:
        os.close(1)
        os.close(2)

    yield {"preexec_fn": close_both}


@contextmanager
def full_disk() -> Iterator[dict[str, Any]]:
    with Path("/dev/full").open("w") as full:
        yield {"stdout": full, "stderr": full}


@contextmanager
def reader_gone() -> Iterator[dict[str, Any]]:
    reading, writing = os.pipe()
    os.close(reading)
    yield {"stdout": writing, "stderr": writing}
    os.close(writing)


@contextmanager
def nobody_reads() -> Iterator[dict[str, Any]]:
    """A pipe that is full from the beginning."""
    reading, writing = os.pipe()
    size = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    assert os.write(writing, b"\n" * size) == size
    yield {"stdout": writing, "stderr": writing}
    os.close(reading)
    os.close(writing)


@contextmanager
def fills_up() -> Iterator[dict[str, Any]]:
    """A pipe that nobody reads, which the log's first lines still go into."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    yield {"stdout": writing, "stderr": writing}
    os.close(reading)
    os.close(writing)


LOGS: Final = {
    "closed": closed,
    "on a full disk": full_disk,
    "a pipe whose reader is gone": reader_gone,
    "a pipe that nobody reads": nobody_reads,
    "a pipe that fills up": fills_up,
}


@row(
    71,
    fault="standard output and error closed, on a full disk, or a pipe that nobody reads",
    answer="201; placed",
    holds="the gateway starts, is ready, places every order once, and stops with exit status 0",
)
@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS)
def test_row_71_no_order_depends_on_the_log(log: Callable[[], Any]) -> None:
    with (
        SandboxThread(per_minute=0, per_hour=0) as sandbox,
        running_stack(upstream_base_url=sandbox.base_url, budget__per_minute=0, log__level="debug") as stack,
    ):
        assert stack.process.stop() == 0
        port = stack.process.address("tenant").rpartition(":")[2]
        with log() as streams:
            process = started(stack, port, **streams)
            try:
                url = f"http://127.0.0.1:{port}"
                wait_until(lambda: status(url) == 200, "ready")
                with httpx.Client(base_url=url, headers=stack.bearer, timeout=30, trust_env=False) as client:
                    for number in range(ORDERS):
                        answer = client.post("/orders", json=an_order(notes=str(number)))
                        assert answer.status_code == 201, answer.text
                assert status(url) == 200
                process.terminate()
                assert process.wait(60) == 0
            finally:
                process.kill()
                process.wait()
        assert sorted(order.data["notes"] for order in sandbox.orders) == sorted(map(str, range(ORDERS)))


def started(stack: Stack, port: str, **streams: Any) -> "subprocess.Popen[bytes]":
    environ = {**outer_environ(), **stack.environ, "ORDERGATE_TENANT_API__PORT": port}
    return subprocess.Popen([sys.executable, "-m", *SERVE], cwd=stack.folder, env=environ, **streams)


def status(url: str) -> int | None:
    try:
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code
    except httpx.TransportError:
        return None
