"""A secret in a file: whole, durable, of mode 0600, this user's own; or one clear line about what is wrong."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gateway.clock import Clock
from gateway.errors import BadSettings, Refused

Put = Callable[[bytes], None]


class SecretFile:
    """The file that a setting names.

    `sizes`: the least and the most bytes that it may have. `missing`: what to say where it is not there.
    """

    def __init__(self, path: Path, setting: str, *, sizes: tuple[int, int], missing: str) -> None:
        self._path = path
        self._setting = setting
        self._sizes = sizes
        self._missing = missing

    def load(self, make: Callable[[], bytes] | None, clock: Clock) -> bytes:
        """The file's content; written first from `make()` where it is missing and `make` is given.

        A new file is whole, of mode 0600 and durable (file and directory fsynced) before this returns; a file that
        is there is never written over. Of processes that start at once one makes it and the others read it. Raises
        `BadSettings` where it is missing, of another size, a link, another user's, or open to others.
        """
        try:
            if make is not None and not os.path.lexists(self._path):
                _create(self._path, make(), clock)
            self._refuse_open_directory()
            content = self._read()
            if make is not None:
                # Whoever made it may have died half-way: nothing may rest on a secret that a power cut takes away.
                _sync_directory(self._path.parent)
        except OSError as fault:
            raise self._bad(f"cannot be used: {fault.strerror or fault}") from fault
        return content

    @contextmanager
    def alone(self) -> Iterator[Put]:
        """In the block nobody else writes the file over. It is given what does: durably, and whole at every moment.

        Refused where another process does so right now; BadSettings where the file cannot be used or written. What
        killed processes left beside it is removed: it holds secrets.
        """
        with ExitStack() as locks:
            try:
                held = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                locks.callback(os.close, held)
                _lock(held, self._path)
                _remove_leftovers(self._path)
            except OSError as fault:
                raise self._bad(f"cannot be written: {fault.strerror or fault}") from fault

            def put(content: bytes) -> None:
                try:
                    _write_over(self._path, content, locks)
                except OSError as fault:
                    raise self._bad(f"cannot be written: {fault.strerror or fault}") from fault

            yield put

    def _bad(self, what: str) -> BadSettings:
        return BadSettings(f"{self._setting}: {self._path}: {what}")

    def _refuse_open_directory(self) -> None:
        """Where all may rename files, anybody may put another in this one's place (a sticky bit forbids it)."""
        try:
            mode = self._path.parent.stat().st_mode
        except FileNotFoundError:
            return
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise self._bad(f"lies in a directory that everybody may write to: chmod o-w {self._path.parent}")

    def _read(self) -> bytes:
        try:
            # O_NONBLOCK: a pipe must not keep the start waiting; it is refused below.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(self._path, flags)
        except FileNotFoundError as fault:
            raise self._bad(self._missing) from fault
        except OSError as fault:
            if fault.errno == errno.ELOOP:
                raise self._bad("is a symbolic link: put the file itself there, or name its real path") from fault
            raise
        try:
            found = os.fstat(descriptor)
            self._check(found)
            return os.read(descriptor, found.st_size)  # in no local, which a traceback might show
        finally:
            os.close(descriptor)

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise self._bad("is not a regular file")
        if found.st_uid != os.geteuid():
            raise self._bad(
                f"belongs to user {found.st_uid}, not to {os.geteuid()}: chown it to the gateway's user"
            )
        mode = stat.S_IMODE(found.st_mode)
        if mode & 0o077:
            raise self._bad(f"has mode {mode:04o}, so others may use it: chmod 600 it, and see who read it")
        least, most = self._sizes
        if not least <= found.st_size <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise self._bad(f"is {found.st_size} bytes long, not {wanted}: restore it from its backup")


def _create(path: Path, content: bytes, clock: Clock) -> None:
    """Write beside, sync, then link into place: `link` fails where somebody was faster, and theirs is kept."""
    _make_directories(path.parent)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{clock.random_bytes(8).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(beside, flags, 0o600)
    try:
        try:
            os.fchmod(descriptor, 0o600)  # a umask may have taken rights from the owner too
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(beside, path)
        except FileExistsError:
            return
    finally:
        beside.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _lock(descriptor: int, path: Path) -> None:
    """The kernel's lock on the file that stands there, for as long as it is open."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as fault:
        raise Refused(f"{path}: another process is changing it right now") from fault
    if not os.path.samestat(os.fstat(descriptor), path.stat()):
        raise Refused(f"{path}: another process has just changed it")


def _write_over(path: Path, content: bytes, locks: ExitStack) -> None:
    """Write beside, sync, rename. The new file is locked before it stands there, and stays so as long as `locks`."""
    beside = _next(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(beside, flags, 0o600)
    locks.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(descriptor, 0o600)  # a umask may have taken rights from the owner too
        if os.write(descriptor, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _next(path: Path) -> Path:
    return path.with_name(f".{path.name}.next")


def _remove_leftovers(path: Path) -> None:
    """What `_create` and `_write_over` of killed processes left. Who makes the file for the first time has no business
    any more: it is there.
    """
    for beside in (_next(path), *path.parent.glob(f".{path.name}.*.????????????????")):
        with suppress(FileNotFoundError):
            beside.unlink()


def _make_directories(directory: Path) -> None:
    """Make what is missing, mode 0700, each durable in its parent."""
    if directory.is_dir():
        return
    _make_directories(directory.parent)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        return
    directory.chmod(0o700)  # as above
    _sync_directory(directory.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
