"""Whole responses of every kind of framing, and ways to spoil and to cut them."""

import itertools

from hypothesis import strategies as st

from tests.upstream.wire import OK, OK_BODY

HEAD = b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\n"
CHUNKED = HEAD + (
    b'Transfer-Encoding: Chunked\r\n\r\n8;x=y\r\n{"order\r\r\n0b\r\n\nId":"ord-1\r\n2\r\n"}\r\n'
    b"0\r\nx-sum: 1\r\n\r\n"
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK
UNTIL_EOF = b"HTTP/1.0 201 Created\r\ncontent-type: application/json\r\n\r\n" + OK_BODY
EMPTY = b"HTTP/1.1 204 No Content\r\nx-a: b\r\n\r\n"
SAMPLES = {"length": OK, "chunked": CHUNKED, "interim": INTERIM, "until-eof": UNTIL_EOF, "empty": EMPTY}

TELLING = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"0",
    b"1",
    b"f",
    b"-",
    b"+",
    b",",
    b";",
    b"\xff",
    b"HTTP/1.1 ",
]
TELLING += [b"\r\n\r\n", b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"connection: close\r\n"]


def mutated() -> st.SearchStrategy[bytes]:
    """A valid response with some bytes changed, cut out, put in, doubled or swapped for what means something."""
    telling = st.sampled_from(TELLING)
    edit = st.tuples(st.floats(0, 1), st.integers(0, 3), telling | st.binary(max_size=4))

    def apply(raw: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
        for where, drop, put in edits:
            at = int(where * len(raw))
            raw = raw[:at] + put + raw[at + drop :]
        return raw

    return st.builds(apply, st.sampled_from(list(SAMPLES.values())), st.lists(edit, max_size=3))


def cut(raw: bytes, places: list[float]) -> list[bytes]:
    marks = sorted({0, len(raw), *(int(place * len(raw)) for place in places)})
    return [raw[a:b] for a, b in itertools.pairwise(marks)]
