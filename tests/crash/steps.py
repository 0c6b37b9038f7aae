"""Numbers everything that a process does to the world outside it, and kills the process at the step it is told.

A step is what outlives the process or is seen from outside: a write, sync, truncation or removal of a file, of the
ledger's or another, and on sockets a connect, each send and each receive. They are hooked at the lowest layer there is
in this process (SQLite's VFS, functions of `os`, methods of `socket.socket`), so that whatever the program does in
future is numbered as well.
Between two steps nothing outside changes: stopping right after one is stopping right before the next.

    CRASH_STEPS   file to which each step is appended, by a raw write before it happens: `NUMBER NAME`
    CRASH_AT      the number of the step to die at, or a name: the first step of that name (0: never)
    CRASH_HOW     `before` it; in the `middle` of it, half of its bytes being written; right `after` it; or `pause`:
                  not to die but to stand still before it (SIGSTOP) until somebody lets it go on (SIGCONT)
"""

import os
import shutil
import signal
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, TypeVar

import apsw

T = TypeVar("T")

BEFORE: Final = "before"
MIDDLE: Final = "middle"
AFTER: Final = "after"
PAUSE: Final = "pause"


def die() -> NoReturn:
    """As a power cut of the process. What it wrote to the kernel stays, whatever it buffered itself is gone."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a killed process runs no further")


class Steps:
    """The count of this process. Steps of several threads are numbered as they begin."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._log = os.open(environ["CRASH_STEPS"], flags, 0o600)
        self._write = os.write  # before it is a step itself
        self._at = environ.get("CRASH_AT", "0")
        self._how = environ.get("CRASH_HOW", BEFORE)
        self._lock = threading.Lock()
        self._number = 0

    def take(self, name: str, whole: Callable[[], T], half: Callable[[], object] | None = None) -> T:
        """One step. `half` does the first half of it, where it has one."""
        with self._lock:
            self._number += 1
            mine = self._at in (str(self._number), name)
            self._write(self._log, b"%d %b\n" % (self._number, name.encode()))
            if mine and self._how == BEFORE:
                die()
        if mine and self._how == PAUSE:
            # To this thread: it stops at once, and the others with it; not when another one happens to run next.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        if not mine or self._how == PAUSE:
            return whole()
        if self._how == MIDDLE:
            if half is not None:
                half()
            die()
        try:
            whole()
        finally:
            die()


class StepsDisk(apsw.VFS):
    """The operating system's files, under every connection that is opened from now on."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        super().__init__("steps", base="unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> "_StepsFile":  # noqa: N802 - apsw's name
        return _StepsFile(self.steps, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - apsw's name
        self.steps.take(f"{_suffix(filename)} remove", lambda: super(StepsDisk, self).xDelete(filename, syncdir))


class _StepsFile(apsw.VFSFile):
    def __init__(self, steps: Steps, name: Any, flags: list[int]) -> None:
        self._steps = steps
        self._file = _suffix(name.filename() if isinstance(name, apsw.URIFilename) else str(name))
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        write = super().xWrite
        self._steps.take(
            f"{self._file} write {len(data)}",
            lambda: write(data, offset),
            lambda: write(bytes(data)[: len(data) // 2], offset),
        )

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        sync = super().xSync
        self._steps.take(f"{self._file} sync", lambda: sync(flags))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - apsw's name
        truncate = super().xTruncate
        self._steps.take(f"{self._file} truncate", lambda: truncate(newsize))


def _suffix(path: str) -> str:
    """Which of a ledger's files it is."""
    return path[path.rfind(".db") + 3 :].lstrip("-") or "db"


def hook_files(steps: Steps) -> None:
    """From now on what is done to files beside SQLite (the master key, tokens, copies) is a step, too.

    A file that is written as Python's own `open` does it passes by all of this: it is refused, but for whole copies,
    whose bytes the kernel moves.
    """

    def hooked(name: str, counts: Callable[..., bool] = lambda *_: True) -> Callable[..., Any]:
        done = getattr(os, name)

        def a_step(*args: Any, **options: Any) -> Any:
            if not counts(*args):
                return done(*args, **options)
            return steps.take(f"file {name}", lambda: done(*args, **options))

        return a_step

    def is_no_log(file: Any, *_: Any) -> bool:
        return file not in (1, 2)  # what it says of itself is no part of the promise

    def makes(path: Any, flags: int, *_: Any) -> bool:
        return bool(flags & os.O_TRUNC) or (bool(flags & os.O_CREAT) and not os.path.lexists(path))

    def unknown(*_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(
            "bytes reach a file by a way that is not numbered: hook it in tests/crash/steps.py"
        )

    def opened(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+") and args[0] != os.devnull:
            if sys._getframe(1).f_code is not shutil.copyfile.__code__:
                unknown()
            steps.take("file open", lambda: None)

    for name in (
        "fsync",
        "fdatasync",
        "rename",
        "replace",
        "link",
        "symlink",
        "unlink",
        "remove",
        "mkdir",
        "rmdir",
    ):
        setattr(os, name, hooked(name))
    for name in ("ftruncate", "truncate", "chmod", "fchmod", "sendfile"):
        setattr(os, name, hooked(name))
    for name, counts in (("write", is_no_log), ("open", makes)):
        setattr(os, name, hooked(name, counts))
    for name in ("pwrite", "pwritev", "writev", "copy_file_range", "splice", "posix_fallocate"):
        setattr(os, name, unknown)
    sys.addaudithook(opened)


def hook_sockets(steps: Steps) -> None:
    """From now on every TCP socket's connect, send and receive is a step: `upstream …` of those that connected."""
    connected: weakref.WeakSet[socket.socket] = weakref.WeakSet()
    connect, send, recv = socket.socket.connect, socket.socket.send, socket.socket.recv

    def outside(sock: socket.socket) -> bool:
        return sock.family in (socket.AF_INET, socket.AF_INET6)  # not the event loop's own pair

    def name(sock: socket.socket, what: str) -> str:
        return f"{'upstream' if sock in connected else 'tenant'} {what}"

    def a_connect(self: socket.socket, address: Any) -> None:
        if not outside(self):
            connect(self, address)
            return
        connected.add(self)
        steps.take("upstream connect", lambda: connect(self, address))

    def a_send(self: socket.socket, data: Any, *flags: int) -> int:
        if not outside(self):
            return send(self, data, *flags)
        half = memoryview(data)[: len(data) // 2]
        return steps.take(name(self, "send"), lambda: send(self, data, *flags), lambda: send(self, half, *flags))

    def a_recv(self: socket.socket, size: int, *flags: int) -> bytes:
        if not outside(self):
            return recv(self, size, *flags)
        return steps.take(name(self, "receive"), lambda: recv(self, size, *flags))

    def unknown(self: socket.socket, *_: Any) -> NoReturn:
        raise NotImplementedError("bytes go out by a way that is not numbered: hook it in tests/crash/steps.py")

    hooks: dict[str, Any] = {"connect": a_connect, "send": a_send, "recv": a_recv}
    others = ("connect_ex", "sendall", "sendmsg", "sendto", "recv_into", "recvmsg", "recvfrom")
    for method, hook in {**hooks, **dict.fromkeys(others, unknown)}.items():
        setattr(socket.socket, method, hook)
