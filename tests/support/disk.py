"""A disk that fails, stalls and remembers when it is told to: an SQLite file system in Python below the ledger's.

In this process: `with a_disk() as disk: disk.arm(Rule(what="sync", code=EIO))`. Below the real program: it is run by
this module (`FAULTY_SERVE`), which puts the disk under the ledger and then calls the program's own `main`; `Remote`
tells that disk what to do. With a trace, every write and sync is written down, from which tests/support/power.py
makes what a power cut leaves.
"""

import itertools
import json
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import apsw
import msgspec

What = Literal["write", "sync", "truncate", "delete"]

FULL: Final = apsw.SQLITE_FULL
READ_ONLY: Final = apsw.SQLITE_READONLY
EIO_SYNC: Final = apsw.SQLITE_IOERR_FSYNC
EIO_WRITE: Final = apsw.SQLITE_IOERR_WRITE

FAULTY_SERVE: Final = ("tests.support.disk", "serve")
"""The module to run instead of the program: the program on such a disk. `SOCKET` says where `Remote` finds it."""

SOCKET: Final = "TEST_DISK"
TRACE: Final = "TEST_DISK_TRACE"
CHECKPOINT_PAGES: Final = "TEST_DISK_CHECKPOINT_PAGES"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to the `first` to `last` operation of that kind since the rule was set, counted from 1.

    `file`: the suffix behind the ledger's name (`""`, `-wal`), None for any. `code`: the SQLite result that it fails
    with, 0 for none. `stall_s`: how long it takes longer. `last` None: from `first` on.
    """

    what: What
    file: str | None = None
    first: int = 1
    last: int | None = None
    code: int = 0
    stall_s: float = 0


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """One operation that came to its end. `began_ns` is monotonic; `data` what was written at `offset`.

    A truncation's new size is its `offset`.
    """

    what: What
    file: str
    began_ns: int
    offset: int = 0
    data: bytes = b""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """How many operations matched each rule, and how many of those were failed or stalled."""

    matched: list[int]
    hit: list[int]


def once(number: int, what: What, code: int, file: str | None = None) -> Rule:
    return Rule(what=what, file=file, first=number, last=number, code=code)


def onward(number: int, what: What, code: int, file: str | None = None) -> Rule:
    return Rule(what=what, file=file, first=number, code=code)


class Disk(apsw.VFS):
    """SQLite's own files, with what is done to them counted, and failed or held up where a rule says so."""

    _numbers = itertools.count()

    def __init__(self, trace: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._rules: Sequence[Rule] = ()
        self._matched: list[int] = []
        self._hit: list[int] = []
        self._trace = None if trace is None else os.open(trace, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        super().__init__(f"disk-{next(self._numbers)}", base="unix", makedefault=True)

    def arm(self, *rules: Rule) -> None:
        """These rules and no others, counted from now on. None: a healthy disk."""
        with self._lock:
            self._rules, self._matched, self._hit = rules, [0] * len(rules), [0] * len(rules)

    def told(self) -> Told:
        with self._lock:
            return Told(matched=list(self._matched), hit=list(self._hit))

    def meets(self, what: What, file: str) -> None:
        """Fails or holds up one operation that is about to be done."""
        stall_s, code = 0.0, 0
        with self._lock:
            for at, rule in enumerate(self._rules):
                if rule.what != what or rule.file not in (None, file):
                    continue
                self._matched[at] += 1
                if self._matched[at] >= rule.first and (rule.last is None or self._matched[at] <= rule.last):
                    self._hit[at] += 1
                    stall_s, code = stall_s + rule.stall_s, code or rule.code
        if stall_s:
            time.sleep(stall_s)
        if code:
            raise apsw.exception_for(code)

    def note(self, done: Done) -> None:
        if self._trace is not None:
            packed = msgspec.msgpack.encode(done)
            os.write(self._trace, len(packed).to_bytes(4, "big") + packed)

    def xOpen(self, name: Any, flags: list[int]) -> "_DiskFile":  # noqa: N802 - apsw's name
        return _DiskFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - apsw's name
        began, file = time.monotonic_ns(), _suffix(filename)
        self.meets("delete", file)
        super().xDelete(filename, syncdir)
        self.note(Done(what="delete", file=file, began_ns=began))


class _DiskFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._file = _suffix(name.filename() if isinstance(name, apsw.URIFilename) else str(name))
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        began = time.monotonic_ns()
        self._disk.meets("write", self._file)
        super().xWrite(data, offset)
        self._disk.note(Done(what="write", file=self._file, began_ns=began, offset=offset, data=data))

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        began = time.monotonic_ns()
        self._disk.meets("sync", self._file)
        super().xSync(flags)
        self._disk.note(Done(what="sync", file=self._file, began_ns=began))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - apsw's name
        began = time.monotonic_ns()
        self._disk.meets("truncate", self._file)
        super().xTruncate(newsize)
        self._disk.note(Done(what="truncate", file=self._file, began_ns=began, offset=newsize))


def _suffix(path: str) -> str:
    return path[path.rfind(".db") + 3 :]


def read_trace(path: Path) -> list[Done]:
    content, found, at = path.read_bytes(), [], 0
    while at < len(content):
        end = at + 4 + int.from_bytes(content[at : at + 4], "big")
        found.append(msgspec.msgpack.decode(content[at + 4 : end], type=Done))
        at = end
    return found


@contextmanager
def a_disk() -> Iterator[Disk]:
    """The disk of every connection that is opened inside the block."""
    disk = Disk()
    try:
        yield disk
    finally:
        disk.arm()
        disk.unregister()


class Remote:
    """The disk of another process."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def arm(self, *rules: Rule) -> None:
        self._ask(list(rules))

    def told(self) -> Told:
        return self._ask(None)

    def _ask(self, rules: list[Rule] | None) -> Told:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(self._path)
            line.sendall(msgspec.json.encode(rules) + b"\n")
            return msgspec.json.decode(line.makefile("rb").readline(), type=Told)


class _Listener(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    disk: Disk


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        asked = json.loads(self.rfile.readline())
        assert isinstance(self.server, _Listener)
        if asked is not None:
            self.server.disk.arm(*msgspec.convert(asked, list[Rule]))
        self.wfile.write(msgspec.json.encode(self.server.disk.told()) + b"\n")


def _put_under_the_ledger() -> None:
    trace = os.environ.get(TRACE)
    disk = Disk(None if trace is None else Path(trace))
    place = Path(os.environ[SOCKET])
    place.unlink(missing_ok=True)  # of the process before
    listener = _Listener(str(place), _Handler)
    listener.disk = disk
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    pages = int(os.environ.get(CHECKPOINT_PAGES, "0"))
    if pages:
        apsw.connection_hooks.append(lambda connection: connection.wal_autocheckpoint(pages))


if __name__ == "__main__":
    _put_under_the_ledger()
    from gateway.cli.main import main

    sys.argv[0] = "ordergate"
    main()
