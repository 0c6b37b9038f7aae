"""One reading of a request: what two parsers could read in two ways is refused, and nothing behind it is read.

The parser refuses most of it by itself. Here stands the rest, once for everything that reads a header section, so
that a proxy in front of the gateway and the gateway cannot disagree about where a request ends or whom it is for.
"""

import re
from typing import Final

from gateway.errors import BadRequest
from gateway.web.context import Scope

CLOSE: Final = (("connection", "close"),)

_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(?::\d{0,5})?", re.ASCII)
# All of a header's names, or values, in one text: the parser has looked at each of them already.
_NAMES: Final = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+\n)*")
_NOT_IN_A_VALUE: Final = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_WHITE: Final = b" \t"
_FRAMING: Final = (b"host", b"content-length", b"transfer-encoding", b"upgrade")


def require_one_reading(scope: Scope) -> None:
    """BadRequest, which also ends the connection, unless there is one way to read the header section."""
    if scope["http_version"] not in ("1.0", "1.1"):
        raise _refused("This listener speaks HTTP/1.1.")
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    names = b"".join([name + b"\n" for name, _ in headers])
    values = b"".join([value for _, value in headers])
    if names.count(b"\n") != len(headers) or not _NAMES.fullmatch(names) or _NOT_IN_A_VALUE.search(values):
        raise _refused("A header line is malformed.")
    found: dict[bytes, list[bytes]] = {name: [] for name in _FRAMING}
    for name, value in headers:
        if name in found:
            found[name].append(value.strip(_WHITE))
    _require_one_host(found[b"host"], scope["http_version"])
    _require_one_length(found[b"content-length"], found[b"transfer-encoding"], scope["http_version"])
    if found[b"upgrade"]:
        # The parser stops before the body of a request that asks for another protocol: nothing behind its header
        # can be read any more, by anybody in the same way.
        raise _refused("This listener speaks HTTP/1.1: ask for no `upgrade`.")


def _require_one_host(hosts: list[bytes], version: str) -> None:
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise _refused("A request must have exactly one Host header.")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise _refused("The Host header is not a host and a port.")


def _require_one_length(lengths: list[bytes], codings: list[bytes], version: str) -> None:
    if codings and lengths:
        raise _refused("A body is chunked or has a Content-Length, not both.")
    if codings and version == "1.0":
        raise _refused("HTTP/1.0 knows no Transfer-Encoding.")
    if codings and [coding.lower() for coding in codings] != [b"chunked"]:
        raise _refused("The only Transfer-Encoding that is understood is `chunked`.")
    if len(lengths) > 1 or (lengths and not _LENGTH.fullmatch(lengths[0])):
        raise _refused("A Content-Length is one whole number.")


def _refused(detail: str) -> BadRequest:
    return BadRequest(detail, headers=CLOSE)
