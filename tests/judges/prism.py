"""Prism, which reads OfferGrid's document with code that shares nothing with ours: a mock, or a judge between.

Both start one process on a free port of 127.0.0.1 and end it. `make test` installs it into `node_modules` here.
"""

import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PROGRAM: Final = Path(__file__).parent / "node_modules/.bin/prism"
START_S: Final = 90
"""Loading it takes a second alone, and ten or more where every core is busy."""


@contextmanager
def prism_mock(document: Path) -> Iterator[str]:
    """A base URL that answers as the document says: its examples, or 400, 401, 422 for what it does not allow."""
    with _prism("mock", str(document)) as base_url:
        yield base_url


@contextmanager
def prism_proxy(document: Path, upstream_url: str) -> Iterator[str]:
    """A base URL that hands to `upstream_url` what the document allows.

    What it does not allow, of requests or of answers, is answered by Prism (problem+json, 4xx or 5xx). JSON goes
    through Prism's own reader and writer: compare values behind it, not bytes.
    """
    with _prism("proxy", "--errors", str(document), upstream_url) as base_url:
        yield base_url


@contextmanager
def _prism(*arguments: str) -> Iterator[str]:
    # Its output goes to a file: a pipe that nobody empties would stop it in the end.
    with tempfile.TemporaryFile() as output:
        port = _free_port()
        command = [str(PROGRAM), *arguments, "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            if not _listens(port, process):
                output.seek(0)
                told = re.sub(r"\x1b\[[0-9;]*m", "", output.read().decode("utf-8", "replace"))
                raise AssertionError(f"Prism did not start:\n{told}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False
