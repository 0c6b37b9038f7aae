"""What the guard itself refuses, whatever the parser in front of it lets through."""

from typing import Any, Final

import pytest

from gateway.errors import BadRequest
from gateway.web.framing import require_one_reading

Lines = list[tuple[bytes, bytes]]
HOST: Final = (b"host", b"a")
TE: Final = b"transfer-encoding"
CL: Final = b"content-length"


def scope(lines: Lines, version: str = "1.1") -> dict[str, Any]:
    return {"headers": lines, "http_version": version}


@pytest.mark.parametrize("lines", [
    [(TE, b"chunked"), (CL, b"5")], [(TE, b"gzip, chunked")], [(TE, b"chunked"), (TE, b"chunked")], [(TE, b"")],
    [(TE, b"xchunked")], [(TE, b"chunked;a=b")], [(TE, b"\x0bchunked")], [(TE, b"identity")],
    [(CL, b"5"), (CL, b"5")], [(CL, b"5"), (CL, b"6")], [(CL, b"5, 5")], [(CL, b"+5")], [(CL, b"-5")], [(CL, b"0x5")],
    [(CL, b"")], [(CL, b"5_0")], [(CL, b"1" * 19)], [(CL, "\u0665".encode())],
    [(b"", b"a")], [(b"a ", b"b")],
    [(b"a\0", b"b")], [(b"a:", b"b")], [(b"a\n", b"b")], [(b"a\nb", b"b")], [(b"\xe4", b"b")],
    [(b"a", b"b\0")], [(b"a", b"b\r")], [(b"a", b"b\n c")], [(b"a", b"b\x7f")], [(b"upgrade", b"h2c")],
])  # fmt: skip
def test_two_readings_are_refused_and_end_the_connection(lines: Lines) -> None:
    with pytest.raises(BadRequest) as refused:
        require_one_reading(scope([HOST, *lines]))
    assert refused.value.headers == (("connection", "close"),)


@pytest.mark.parametrize(("lines", "version"), [
    ([], "1.1"), ([HOST, HOST], "1.1"), ([HOST, HOST], "1.0"), ([(b"host", b"a/b")], "1.1"), ([HOST], "2"),
    ([HOST, (TE, b"chunked")], "1.0"),
])  # fmt: skip
def test_host_and_version(lines: Lines, version: str) -> None:
    with pytest.raises(BadRequest):
        require_one_reading(scope(lines, version))


@pytest.mark.parametrize(("lines", "version"), [
    ([HOST], "1.1"), ([], "1.0"), ([HOST, (TE, b"Chunked ")], "1.1"), ([HOST, (CL, b"0005")], "1.1"),
    ([HOST, (b"a", "\u00e4\t b".encode())], "1.1"), ([HOST, (b"x_y!", b"")], "1.1"), ([(b"host", b"[::1]:80")], "1.1"),
])  # fmt: skip
def test_one_reading_passes(lines: Lines, version: str) -> None:
    require_one_reading(scope(lines, version))
