"""The statements of the audit log: every change of teams, keys, tenants and tokens, and every word of an operator.

A row is written in the transaction of the change that it tells, so that neither is there without the other. What makes
the log a chain: `core.audit`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import apsw
import msgspec

from gateway.core.audit import BEGIN, BROKEN, START, AuditRow, End, Marks, Verified, end_at, is_end, link_of, verify

# Texts are read as the bytes that they are: a row that somebody changed may hold none.
_ROWS: Final = """
SELECT number, at_ms, CAST(who AS BLOB), CAST(action AS BLOB), CAST(subject AS BLOB), CAST(change AS BLOB), link
FROM audit
"""
_IN_ORDER: Final = f"{_ROWS} ORDER BY number"
_PAGE: Final = f"{_ROWS} WHERE number < ? ORDER BY number DESC LIMIT ?"
_LAST: Final = f"{_ROWS} ORDER BY number DESC LIMIT 1"
_ADD: Final = """
INSERT INTO audit (number, at_ms, who, action, subject, change, link) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_LINK: Final = "UPDATE audit SET link = ? WHERE number = ?"
_END: Final = "SELECT value FROM meta WHERE name = 'audit_end'"
_SET_END: Final = """
INSERT INTO meta (name, value) VALUES ('audit_end', ?1) ON CONFLICT DO UPDATE SET value = ?1
"""
_UNLINKED: Final = "SELECT 1 FROM meta WHERE name = 'audit_unlinked'"
_LINKED: Final = "DELETE FROM meta WHERE name = 'audit_unlinked'"
_LAST_NUMBER: Final = 2**63 - 1


def audit(
    connection: apsw.Connection,
    marks: Marks,
    *,
    at_ms: int,
    who: str,
    action: str,
    subject: str,
    change: Mapping[str, Any],
) -> None:
    """One row, in the transaction of the change that it tells. `change` holds no secret."""
    audit_all(connection, marks, at_ms=at_ms, who=who, changes=[(action, subject, change)])


def audit_all(
    connection: apsw.Connection,
    marks: Marks,
    *,
    at_ms: int,
    who: str,
    changes: Iterable[tuple[str, str, Mapping[str, Any]]],
) -> None:
    """A row for each action, its subject and what it changed: as if each were written by itself, in less time."""
    _link_older(connection, marks, at_ms)
    _append(connection, marks, (_row(at_ms, who, *told) for told in changes))


def begin_chain(connection: apsw.Connection, marks: Marks, at_ms: int, *, new: bool) -> None:
    """Before the first row of a `new` ledger; of one that is older than the chain, links what is there.

    Inside the caller's transaction. A log whose chain was begun stays as it is, and so does one that lost its end.
    """
    if new and _end(connection) is None and _last(connection) is None:
        _set_end(connection, marks, 0, START)
    _link_older(connection, marks, at_ms)


def page(connection: apsw.Connection, *, before: int | None, limit: int) -> list[AuditRow]:
    """The newest first; `before` continues an earlier page."""
    wanted = (_LAST_NUMBER if before is None else before, limit)
    return [_read(row) for row in connection.execute(_PAGE, wanted)]


def verify_chain(connection: apsw.Connection, marks: Marks) -> Verified:
    """Reads all of the log, as of one moment."""
    with connection:
        found = verify(marks, _in_order(connection), _end(connection))
    return found  # noqa: RET504 - mypy cannot know that apsw's block never swallows an error


def _row(at_ms: int, who: str, action: str, subject: str, change: Mapping[str, Any]) -> AuditRow:
    texts = {"who": who.encode(), "action": action.encode(), "subject": subject.encode()}
    return AuditRow(number=0, at_ms=at_ms, **texts, change=msgspec.json.encode(change))


def _append(connection: apsw.Connection, marks: Marks, contents: Iterable[AuditRow]) -> None:
    last, end = _last(connection), _end(connection)
    number, link = (0, START) if last is None else (last.number, last.link)
    before = link if link is not None and is_end(marks, end, number, link) else BROKEN
    number = max(number, 0 if end is None else end.number)
    for content in contents:
        number += 1
        row = msgspec.structs.replace(content, number=number)
        before = link_of(marks, before, row)
        texts = (row.who.decode(), row.action.decode(), row.subject.decode(), row.change.decode())
        connection.execute(_ADD, (number, row.at_ms, *texts, before))
    _set_end(connection, marks, number, before)


def _link_older(connection: apsw.Connection, marks: Marks, at_ms: int) -> None:
    """Once in the life of a ledger that is older than the chain; that the chain begins there stands in the log."""
    if connection.execute(_UNLINKED).fetchone() is None:
        return
    connection.execute(_LINKED)
    if _end(connection) is not None:
        return
    count, number, link = 0, 0, START
    for row in list(_in_order(connection)):
        count, number, link = count + 1, row.number, link_of(marks, link, row)
        connection.execute(_LINK, (link, number))
    _set_end(connection, marks, number, link)
    _append(connection, marks, [_row(at_ms, "gateway", BEGIN, "ledger", {"to": {"rowsBefore": count}})])


def _in_order(connection: apsw.Connection) -> Iterator[AuditRow]:
    for row in connection.execute(_IN_ORDER):
        yield _read(row)


def _last(connection: apsw.Connection) -> AuditRow | None:
    row = connection.execute(_LAST).fetchone()
    return None if row is None else _read(row)


def _read(row: Any) -> AuditRow:
    number, at_ms, who, action, subject, change, link = row
    return AuditRow(number=number, at_ms=at_ms, who=who, action=action, subject=subject, change=change, link=link)


def _end(connection: apsw.Connection) -> End | None:
    """None where there is none, or nothing that can be one."""
    try:
        found: Any = connection.execute(_END).get
        return None if found is None else msgspec.json.decode(found, type=End)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
        return None


def _set_end(connection: apsw.Connection, marks: Marks, number: int, link: bytes) -> None:
    connection.execute(_SET_END, (msgspec.json.encode(end_at(marks, number, link)).decode(),))
