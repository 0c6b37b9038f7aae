"""A process that holds keys leaves nothing of its memory behind, and lets no other one look at it."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from gateway.sandbox import SandboxThread
from tests.support.needs import ROOT
from tests.support.stack import an_order, running_stack

FATAL: Final = (signal.SIGABRT, signal.SIGSEGV)
CORE_PATTERN: Final = Path("/proc/sys/kernel/core_pattern")

DIES: Final = """
import os, resource, sys
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
if sys.argv[1] == "kept":
    from gateway.cli.process import keep_memory_to_itself
    keep_memory_to_itself()
os.kill(os.getpid(), int(sys.argv[2]))
"""

DUMPABLE: Final = """
import ctypes
from gateway.cli.process import keep_memory_to_itself
before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
keep_memory_to_itself()
print(before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


def cores_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("core*") if path.is_file())


def dies(folder: Path, how: str, number: signal.Signals) -> tuple[int, bool]:
    """The exit status, and whether the kernel says that it wrote a core dump."""
    process = subprocess.Popen(
        [sys.executable, "-c", DIES, how, str(int(number))], cwd=folder, env={"PYTHONPATH": str(ROOT)}
    )
    _, status = os.waitpid(process.pid, 0)
    process.returncode = status
    return os.waitstatus_to_exitcode(status), os.WCOREDUMP(status)


@pytest.mark.parametrize("number", FATAL)
def test_a_process_that_dies_badly_writes_no_core_dump(number: signal.Signals, tmp_path: Path) -> None:
    """Beside one that does nothing about it, which shows that here one would be written, wherever that is so."""
    status, dumped = dies(tmp_path, "kept", number)
    assert (status, dumped, cores_in(tmp_path)) == (-number, False, [])
    would = resource.getrlimit(resource.RLIMIT_CORE)[1] != 0 and not CORE_PATTERN.read_text().startswith("/")
    status, dumped = dies(tmp_path, "not kept", number)
    assert status == -number
    assert dumped or not would, "nobody can tell here whether anything was prevented"


@pytest.mark.parametrize("number", FATAL)
def test_a_gateway_that_dies_badly_leaves_no_core_dump(number: signal.Signals) -> None:
    """With no limit on core dumps outside, and keys in its memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        with SandboxThread() as sandbox, running_stack(upstream_base_url=sandbox.base_url) as stack:
            with stack.client() as client:
                assert client.post("/orders", json=an_order()).status_code == 201
            pid = stack.process.pid
            assert core_limit_of(pid) == ["0", "0"]
            stack.process.signal(number)
            assert stack.process.wait() == -number
            assert cores_in(stack.folder) == []
            stack.start()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def test_no_other_process_of_the_user_may_attach_and_none_that_takes_core_dumps_gets_one() -> None:
    """Of that the kernel's word is asked: limits do not bind a program that core dumps are piped to."""
    done = subprocess.run(
        [sys.executable, "-c", DUMPABLE], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 0\n"


def core_limit_of(pid: int) -> Sequence[str]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith("Max core file size")).split()[4:6]
