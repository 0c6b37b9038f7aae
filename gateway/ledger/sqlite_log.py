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

import os
import struct
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
        trusted = magic in _MAGIC and _checksum(header[:24], little=little) == checksum
        step = _FRAME_HEADER.size + (page_bytes if trusted else _PAGE_BYTES)
        longest, row, at, before = 0, 0, _LOG_HEADER.size + good * step, b""
        while len(frame := os.pread(file, _FRAME_HEADER.size, at)) == _FRAME_HEADER.size:
            _page, pages_after, frame_salt, kept = _FRAME_HEADER.unpack(frame)
            ours = frame_salt == salt or not trusted
            if row and trusted:  # only behind a commit does it matter, and it costs reading a page
                page = os.pread(file, page_bytes, at + _FRAME_HEADER.size)
                continues = len(page) == page_bytes and kept == _checksum(
                    frame[:8] + page, little=little, before=before
                )
                row = row if continues else 0
            row += bool(pages_after) and ours
            longest, at, before = max(longest, row), at + step, kept
        return header, longest
    finally:
        os.close(file)


def _checksum(content: bytes, *, little: bool, before: bytes = bytes(8)) -> bytes:
    """SQLite's, of a multiple of 8 bytes, continuing that of what is `before`; stored most significant byte first
    whatever it was made from.
    """
    one, two = struct.unpack(">II", before)
    words = struct.unpack(f"{'<' if little else '>'}{len(content) // 4}I", content)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFF_FFFF
        two = (two + second + one) & 0xFFFF_FFFF
    return struct.pack(">II", one, two)
