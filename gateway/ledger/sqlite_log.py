"""Whether the write-ahead log is whole: SQLite by itself never says that it is not.

SQLite takes the first frame that does not fit as the log's end, and every commit behind it as never made. After a
power cut that is right, since only the last commit was on its way. Commits behind a gap were durable: without them
orders would be denied that OfferGrid has.

Not every commit behind the end was durable. A writer that dies after writing one and before announcing it leaves it
there; the next writer writes over its beginning, and its rest stays behind the end for as long as the log goes on. Of
each such death that is one commit, and what follows it does not continue its checksum. Commits that were lost continue
each other's.

Where the bytes are is told by SQLite's file format, section 4.
"""

import itertools
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apsw

from gateway.errors import StorageUnreachable

_LOG_HEADER: Final = struct.Struct(">IIII8s8s")  # magic, format, page size, checkpoint number, salt, checksum
_FRAME_HEADER: Final = struct.Struct(">II8s8s")  # page, pages after a commit or 0, salt, checksum
_MAGIC: Final = (0x377F0682, 0x377F0683)  # the order of bytes for checksums: little, big
_PAGE_BYTES: Final = 4096  # where the header cannot be asked
_MOST_TORN: Final = 1
"""Commits in a row that a power cut or a death can leave: each is synced and announced before the next is written."""


def require_whole_log(connection: apsw.Connection, path: Path) -> None:
    """StorageUnreachable where the write-ahead log holds durable commits that cannot be reached any more.

    SQLite must have read it. Costs a look at one header, and at those of the frames behind the last good commit.
    """
    log = path.with_name(path.name + "-wal")
    while True:
        good = _frames_in_use(connection)
        header, lost = _commits_behind(log, good)
        if lost <= _MOST_TORN:
            return
        if (good, header) == (_frames_in_use(connection), _commits_behind(log, good)[0]):  # nobody wrote meanwhile
            # Whoever closes last folds the log into the database and removes it: what is left of it must stay.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            raise StorageUnreachable(f"{log}: commits behind frame {good} cannot be read; see `ordergate db check`")


def _frames_in_use(connection: apsw.Connection) -> int:
    found, _copied = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    return max(found, 0)


def _commits_behind(log: Path, good: int) -> tuple[bytes, int]:
    """The log's header, and how many commits lie behind its first `good` frames, in the longest row that continues
    itself.

    What is left of an older log, of before it began anew, does not count; where the header cannot be trusted, all do,
    as one row.
    """
    try:
        file = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b"", 0
    try:
        header = os.pread(file, _LOG_HEADER.size, 0)
        if len(header) < _LOG_HEADER.size:
            return header, 0
        magic, _format, page_bytes, _number, salt, checksum = _LOG_HEADER.unpack(header)
        little = magic == _MAGIC[0]
        if magic not in _MAGIC or _checksum(header[:24], checksum=bytes(8), little=little) != checksum:
            frames = _frames(file, _FRAME_HEADER.size + _PAGE_BYTES, good)
            return header, sum(any(frame[4:8]) for frame in frames)
        step = _FRAME_HEADER.size + page_bytes
        for last in itertools.islice(_frames(file, step, good - 1), bool(good)):
            checksum = last[16 : _FRAME_HEADER.size]
        return header, _longest_row(_frames(file, step, good), salt=salt, checksum=checksum, little=little)
    finally:
        os.close(file)


def _frames(file: int, step: int, at: int) -> Iterator[bytes]:
    """Those behind the first `at` ones, the last one perhaps without all of its page."""
    while len(frame := os.pread(file, step, _LOG_HEADER.size + at * step)) >= _FRAME_HEADER.size:
        yield frame
        at += 1


def _longest_row(frames: Iterator[bytes], *, salt: bytes, checksum: bytes, little: bool) -> int:
    """How many commits continue each other at most. `checksum`: of the frame before the first one.

    A frame continues the one before it as that says of itself or as its content says: either may be what is damaged.
    A frame of this log has its salt, or continues one that has.
    """
    longest = row = 0
    ours, said, made = True, checksum, checksum
    for frame in frames:
        _page, pages_after, frame_salt, kept = _FRAME_HEADER.unpack(frame[: _FRAME_HEADER.size])
        continues, sums = False, [kept]
        if ours and (row or pages_after) and len(frame) % 8 == 0:  # nothing else matters, and it costs time
            content = frame[:8] + frame[_FRAME_HEADER.size :]
            sums = [_checksum(content, checksum=one, little=little) for one in dict.fromkeys((said, made))]
            continues = kept in sums
        ours = frame_salt == salt or continues
        row = (row if continues else 0) + bool(ours and pages_after)
        longest, said, made = max(longest, row), kept, kept if continues else sums[0]
    return longest


def _checksum(content: bytes, *, checksum: bytes, little: bool) -> bytes:
    """SQLite's, of a multiple of 8 bytes, behind what has that `checksum` (zeroes: behind nothing); stored most
    significant byte first whatever it was made from.
    """
    one, two = struct.unpack(">II", checksum)
    words = struct.unpack(f"{'<' if little else '>'}{len(content) // 4}I", content)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFF_FFFF
        two = (two + second + one) & 0xFFFF_FFFF
    return struct.pack(">II", one, two)
