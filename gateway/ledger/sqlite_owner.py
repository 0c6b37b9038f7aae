"""Whose an order is, among the processes that share one ledger file: held by the kernel, so that it ends with them.

Each process that may send takes an *epoch*, a number that the ledger never gives out twice, and locks the byte at that
offset of `FILE.owner` for as long as it lives. An order in hand carries its holder's epoch. Whoever finds that byte
free knows that the holder is gone: killed, crashed or ended. A process that is merely stopped still holds its byte,
and nobody takes over what it may yet send.

The locks belong to the open file (`F_OFD_SETLK`), not to the process: no other close() can drop them.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import apsw

from gateway.errors import StorageUnreachable

_FLOCK: Final = "hhqqi4x"  # struct flock on 64-bit Linux: type, whence, start, length, pid
_LEADER: Final = 1 << 40
"""The byte behind all epochs, whose holder looks for unknown orders on behalf of all."""

_NEXT_EPOCH: Final = """
INSERT INTO meta (name, value) VALUES ('epoch', 1) ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value
"""


class Owner:
    """One process's hold on a ledger. Remembers which files it is about: what is written to a removed file is lost."""

    def __init__(self, path: Path) -> None:
        path = path.resolve()  # one file, one lock, whatever link leads to it
        self._lock_path = path.with_name(path.name + ".owner")
        self._watched = (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", ".owner")))
        self._seen: tuple[tuple[int, int], ...] | None = None
        self._leads = False
        self.epoch = 0
        try:
            self._file = os.open(self._lock_path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as fault:
            raise StorageUnreachable(f"{self._lock_path}: {fault.strerror}") from fault

    def begin(self, connection: apsw.Connection) -> None:
        """Takes an epoch, inside the caller's transaction: the byte is held before any order can carry its number."""
        epoch: int = connection.execute(_NEXT_EPOCH).get
        if not self._lock(epoch):
            raise StorageUnreachable(f"{self._lock_path}: epoch {epoch} is held by another process")
        self.epoch = epoch

    def gone(self, epochs: Iterable[int]) -> list[int]:
        """Those of the epochs whose process certainly lives no more. Never one's own."""
        return [epoch for epoch in epochs if epoch != self.epoch and self._is_free(epoch, 1)]

    def nobody_lives(self) -> bool:
        """Whether no process holds an epoch of this ledger; this one's own counts for none."""
        return self._is_free(1, 0)

    def leads(self) -> bool:
        """Whether this process is the one that reconciles; it stays so until it ends."""
        self._leads = self._leads or self._lock(_LEADER)
        return self._leads

    def intact(self) -> bool:
        """Whether the files are those of the first call, which must come after a first write."""
        try:
            found = tuple((status.st_dev, status.st_ino) for status in map(os.stat, self._watched))
        except OSError:
            return False
        self._seen = self._seen or found
        return found == self._seen

    def release(self) -> None:
        os.close(self._file)

    def _lock(self, offset: int) -> bool:
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
        try:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, wanted)
        except OSError as fault:
            if fault.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise StorageUnreachable(
                f"{self._lock_path}: {fault.strerror}; put the ledger on a local disk"
            ) from fault
        return True

    def _is_free(self, start: int, length: int) -> bool:
        """Nobody else holds a byte of it. Length 0: to the end."""
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
        found = fcntl.fcntl(self._file, fcntl.F_OFD_GETLK, wanted)
        kind: int = struct.unpack(_FLOCK, found)[0]
        return kind == fcntl.F_UNLCK
