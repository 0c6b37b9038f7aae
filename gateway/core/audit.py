"""The chain over the audit log: by which it is known that no row was changed, taken out, put in or moved.

    link of row n = HMAC(audit key, "row" | link of row n - 1 | n | the row's content); before row 1 stand 32 zeros
    mac of the end = HMAC(audit key, "end" | n | link of row n)

The key is made from the master key, so that nobody who can only write the database can make a link. The end is kept
beside the log and moves with each row: without it the newest rows could be cut off unseen.

A row that is written behind a log whose end does not fit is linked to `BROKEN`, which nothing leads to: what was done
to the log stays visible, whatever is written after it.
"""

import hmac
from collections.abc import Iterable
from typing import Final, Literal, Protocol

import msgspec

from gateway.clock import rfc3339

START: Final = bytes(32)
BROKEN: Final = b"the log before this is not whole"
BEGIN: Final = "audit begin"
"""What a ledger does once whose log is older than the chain."""


class Marks(Protocol):
    """The part of the vault that is needed here."""

    def mac(self, purpose: Literal["audit"], data: bytes) -> bytes: ...


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row, its texts as the bytes that stand in the ledger. `change` is a JSON object. `link` None: not linked."""

    number: int
    at_ms: int
    who: bytes
    action: bytes
    subject: bytes
    change: bytes
    link: bytes | None = None


def written_at(row: AuditRow) -> str:
    """RFC 3339; the bare number where somebody wrote one that is no moment."""
    try:
        return rfc3339(row.at_ms)
    except (OverflowError, ValueError, OSError):
        return str(row.at_ms)


class End(msgspec.Struct, frozen=True, kw_only=True):
    """Where the chain ends: the newest row's number and link, 0 and `START` of an empty log. In hexadecimal digits."""

    number: int
    link: str
    mac: str


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """The first row that is not as it was written, by its number, and what is wrong with it."""

    number: int
    what: str


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows the log holds, and where its chain breaks, if it does.

    `begins`: the number of a row `audit begin`. What stands before it was linked when that was written, and is proven
    unchanged since then only; None where the log was a chain from its first row on.
    """

    rows: int
    broken: Break | None
    begins: int | None = None


def link_of(marks: Marks, before: bytes, row: AuditRow) -> bytes:
    """The row's link, behind the row whose link is `before`."""
    parts = (row.who, row.action, row.subject, row.change)
    content = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    numbers = row.number.to_bytes(8, "big", signed=True) + row.at_ms.to_bytes(8, "big", signed=True)
    return marks.mac("audit", b"row" + before + numbers + content)


def end_at(marks: Marks, number: int, link: bytes) -> End:
    return End(number=number, link=link.hex(), mac=_end_mac(marks, number, link.hex()))


def is_end(marks: Marks, end: End | None, number: int, link: bytes | None) -> bool:
    """Whether the log ends with this row (0 and `START`: it is empty), as was written when that became its last."""
    if end is None or link is None or not _is_genuine(marks, end):
        return False
    return end.number == number and end.link == link.hex()


def verify(marks: Marks, rows: Iterable[AuditRow], end: End | None) -> Verified:
    """Reads the whole log, by number. Stops judging at the first row that is wrong, and counts on."""
    count, number, link = 0, 0, START
    broken: Break | None = None
    begins: int | None = None
    for row in rows:
        count += 1
        if broken is not None:
            continue
        broken = _fault(marks, number, link, row)
        number, link = row.number, row.link or b""
        if broken is None and row.action == BEGIN.encode():
            begins = number
    if broken is None and not is_end(marks, end, number, link):
        broken = _fault_of_end(marks, number, end)
    return Verified(rows=count, broken=broken, begins=begins)


def _fault(marks: Marks, before: int, link: bytes, row: AuditRow) -> Break | None:
    if row.number <= before:  # below 1: numbers are unique, and read in their order
        return Break(number=row.number, what="was put in")
    if row.number != before + 1:
        return Break(number=before + 1, what="is missing")
    if row.link is None or not hmac.compare_digest(row.link, link_of(marks, link, row)):
        return Break(number=row.number, what="was changed, moved or put in, or what stood before it was")
    return None


def _fault_of_end(marks: Marks, number: int, end: End | None) -> Break:
    if end is not None and _is_genuine(marks, end):
        if end.number > number:
            return Break(number=number + 1, what="is missing: the log was cut off here")
        return Break(number=end.number + 1, what="was put in behind the log's end")
    return Break(number=number + 1, what="may be missing: where the log ended was changed or taken away")


def _is_genuine(marks: Marks, end: End) -> bool:
    return hmac.compare_digest(end.mac.encode(), _end_mac(marks, end.number, end.link).encode())


def _end_mac(marks: Marks, number: int, link: str) -> str:
    return marks.mac("audit", b"end" + number.to_bytes(8, "big", signed=True) + link.encode()).hex()
