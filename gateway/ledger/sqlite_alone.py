"""Being alone on a ledger: for what must not happen while any process may place orders on it."""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from gateway.errors import Refused

_FLOCK: Final = "hhqqi4x"  # struct flock on 64-bit Linux: type, whence, start, length, pid
_FIRST_EPOCH: Final = 1
_TO_THE_END: Final = 0

_LAST_EPOCH: Final = "SELECT coalesce((SELECT value FROM meta WHERE name = 'epoch'), 0)"


def last_epoch(connection: apsw.Connection) -> int:
    """The newest epoch that the ledger gave out, as this connection sees it."""
    found: int = connection.execute(_LAST_EPOCH).get
    return found


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Holds every epoch of the ledger at `path` at once: no process that lives has one, and none gets one meanwhile.

    Refused where one lives. Raises OSError.
    """
    path = path.resolve()
    held = os.open(path.with_name(path.name + ".owner"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        every = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _FIRST_EPOCH, _TO_THE_END, 0)
        try:
            fcntl.fcntl(held, fcntl.F_OFD_SETLK, every)
        except OSError as fault:
            if fault.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise Refused(f"{path}: `ordergate serve` is running on this ledger: stop it first") from fault
        yield
    finally:
        os.close(held)
