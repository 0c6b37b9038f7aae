"""Files that are whole or not there: written under another name beside, synced, then put in place at once.

The other name is `.NAME.ordergate-partial`. Whoever writes it holds the kernel's lock on it, so that what a killed
process left is known as such, and is removed by the next one that writes in that folder.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from gateway.errors import Refused

_ENDING: Final = ".ordergate-partial"
_BESIDE: Final = ("-wal", "-shm", "-journal")
"""What SQLite may keep beside a database."""

_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


@contextmanager
def partial(target: Path) -> Iterator[Path]:
    """An empty file of mode 0600 beside `target`, which is gone when the block is left unless it was put in place.

    Refused where another process writes the same target. Raises OSError.
    """
    _sweep(target.parent)
    path = target.with_name(f".{target.name}{_ENDING}")
    try:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as fault:
        raise Refused(f"{target}: another command is writing it right now") from fault
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(held, 0o600)  # a umask may have taken rights from the owner too
        yield path
    finally:
        _remove(path)
        os.close(held)


def put_new(path: Path, target: Path) -> None:
    """Makes the partial file `target`, durably; FileExistsError where there is one: nothing is written over."""
    sync_file(path)
    try:
        os.link(path, target)
    except OSError as fault:
        if fault.errno not in _NO_LINKS:
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from fault
        path.rename(target)
    sync_folder(target.parent)


def put_over(path: Path, target: Path) -> None:
    """Makes the partial file `target`, durably, whatever stood there: at every moment it is the old one or the new."""
    sync_file(path)
    path.replace(target)
    sync_folder(target.parent)


def sync_file(path: Path) -> None:
    """Must not be called while this process has the file open as a database: closing it drops SQLite's locks."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Removes what killed processes left."""
    for path in folder.glob(f".*{_ENDING}"):
        with suppress(OSError):  # somebody else sweeps too, or it belongs to another user
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(descriptor)


def _remove(path: Path) -> None:
    for name in (path, *(path.with_name(path.name + ending) for ending in _BESIDE)):
        name.unlink(missing_ok=True)
