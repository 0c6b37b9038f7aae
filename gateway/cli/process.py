"""What the program does to its own process before anything else."""

import ctypes
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

_PR_SET_DUMPABLE: Final = 4  # prctl(2)


def keep_memory_to_itself() -> None:
    """The process's memory holds keys: no core dump of it is written, whatever the limits outside say and whoever takes
    core dumps here; and no other process of the same user may attach to it (Linux).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, AttributeError):  # no Linux
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def open_missing_streams() -> None:
    """A standard stream that was closed is null instead: else the ledger could get its number, and be written to."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - open as long as the process
