"""A second reading of a response, written from RFC 9112 alone: the judge of what the real reader may accept.

It sees the whole stream at once and gives up at anything that is not exactly by the book. It shares no code with
the reader that it judges.
"""

import re
from typing import NamedTuple

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)")
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
# More than the book allows: a name or a value that is empty, which llhttp takes, and which cannot move a boundary.
_EXTENSION = rb";(?:" + _TOKEN + rb")?(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb")?)?"
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:" + _EXTENSION + rb")*")


class Reading(NamedTuple):
    status: int
    body: bytes
    rest: bytes


def read(stream: bytes, max_body: int) -> Reading | None:
    """The response in a stream that ended in good order, or None where there is none to be trusted."""
    for _ in range(11):
        head, blank, rest = stream.partition(b"\r\n\r\n")
        if not blank:
            return None
        lines = head.split(b"\r\n")
        start = _STATUS_LINE.fullmatch(lines[0])
        fields = [_FIELD.fullmatch(line) for line in lines[1:]]
        if start is None or None in fields:
            return None
        headers = [(f[1].lower(), f[2].strip(b" \t")) for f in fields if f is not None]
        status = int(start[2])
        if status >= 200:
            return _body(status, start[1] == b"1", headers, rest, max_body)
        if status == 101:
            return None
        stream = rest
    return None


def _body(
    status: int, is_http_11: bool, headers: list[tuple[bytes, bytes]], rest: bytes, max_body: int
) -> Reading | None:
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if any(value.lower() not in (b"", b"identity") for name, value in headers if name == b"content-encoding"):
        return None
    if len(lengths) + len(codings) > 1 or (codings and (codings != [b"chunked"] or not is_http_11)):
        return None
    if lengths and re.fullmatch(rb"[0-9]{1,19}", lengths[0]) is None:
        return None
    if status in (204, 304):
        return Reading(status, b"", rest)
    if codings:
        return _chunks(status, rest, max_body)
    length = int(lengths[0]) if lengths else len(rest)
    if length > max_body or len(rest) < length:
        return None
    return Reading(status, rest[:length], rest[length:])


def _chunks(status: int, rest: bytes, max_body: int) -> Reading | None:
    body = b""
    while True:
        line, end, rest = rest.partition(b"\r\n")
        size = _CHUNK.fullmatch(line)
        if not end or size is None:
            return None
        length = int(size[1], 16)
        if length == 0:
            break
        if len(rest) < length + 2 or rest[length : length + 2] != b"\r\n":
            return None
        body, rest = body + rest[:length], rest[length + 2 :]
    if len(body) > max_body:
        return None
    while True:
        line, end, rest = rest.partition(b"\r\n")
        if not end:
            return None
        if not line:
            return Reading(status, body, rest)
        if _FIELD.fullmatch(line) is None:
            return None
