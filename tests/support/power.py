"""What a power cut leaves of a ledger, made from the trace of a run (tests/support/disk.py).

What was synced is there. Of what was written since, anything may be: each write whole, or not at all, or in part, a
sector being the least that a disk writes. A file that was never synced may be there empty, or not at all.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

import msgspec

from tests.support.disk import Done

SECTOR_BYTES: Final = 512

Loss = Literal["all", "nothing", "some", "torn"]
LOSSES: Final[Sequence[Loss]] = ("all", "nothing", "some", "torn")


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """The power fails after the first `after` operations of the trace. `before_ns`: whatever was seen by then on the
    monotonic clock was seen before the cut. `files`: suffix behind the ledger's name to content.
    """

    after: int
    loss: Loss
    before_ns: int
    files: Mapping[str, bytes]


def cuts(trace: Sequence[Done], start: Mapping[str, bytes], wanted: int, chance: random.Random) -> Iterator[Cut]:
    """`wanted` images, spread evenly over the run. `start`: what was on the disk before it."""
    safe: dict[str, bytearray] = {file: bytearray(content) for file, content in start.items()}
    loose: dict[str, list[Done]] = {}
    last = 0
    made = 0
    for after, done in enumerate(trace, 1):
        _happens(done, safe, loose)
        last = max(last, done.began_ns)
        ends_ns = max(trace[after].began_ns, last) if after < len(trace) else last
        while made < wanted * after // len(trace):
            loss = LOSSES[made % len(LOSSES)]
            made += 1
            files = {
                file: content
                for file in {*safe, *loose}
                if (content := _left(safe.get(file), loose.get(file, ()), loss, chance)) is not None
            }
            yield Cut(after=after, loss=loss, before_ns=ends_ns, files=files)


def _happens(done: Done, safe: dict[str, bytearray], loose: dict[str, list[Done]]) -> None:
    if done.what == "sync":
        content = safe.setdefault(done.file, bytearray())
        for write in loose.pop(done.file, ()):
            _apply(content, write)
    elif done.what == "delete":  # both are allowed until the folder is synced; what is gone is the harder case
        safe.pop(done.file, None)
        loose.pop(done.file, None)
    else:
        loose.setdefault(done.file, []).append(done)


def _apply(content: bytearray, done: Done) -> None:
    if done.what == "truncate":
        del content[done.offset :]
    content.extend(bytes(max(0, done.offset - len(content))))
    content[done.offset : done.offset + len(done.data)] = done.data


def _left(safe: bytearray | None, loose: Sequence[Done], loss: Loss, chance: random.Random) -> bytes | None:
    """The file's content after the cut, None where it is not there."""
    if safe is None and (loss == "all" or not loose):
        return None
    content = bytearray(safe or b"")
    for done in loose:
        if loss == "nothing" or (loss == "some" and chance.random() < 0.5):
            _apply(content, done)
        elif loss == "torn":
            for part in _sectors(done):
                if chance.random() < 0.5:
                    _apply(content, part)
    return bytes(content)


def _sectors(done: Done) -> Iterator[Done]:
    if done.what != "write":
        yield done
        return
    at, end = done.offset, done.offset + len(done.data)
    while at < end:
        upto = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        data = done.data[at - done.offset : upto - done.offset]
        yield msgspec.structs.replace(done, offset=at, data=data)
        at = upto
