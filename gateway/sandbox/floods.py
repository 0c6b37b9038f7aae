"""Answers that are too slow or too large, written piece by piece so that the sandbox itself stays small."""

import asyncio
import zlib

from gateway.sandbox.answers import Response, encode, head_lines, render
from gateway.sandbox.connection import Connection
from gateway.sandbox.faults import Fault
from gateway.sandbox.records import Request

_MIB = 1024 * 1024
_HUGE_BYTES = 64 * _MIB
_HEADER_LINE_BYTES = 4096
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
_GZIP_END = b"\x03\x00"  # an empty last block


def rendered(response: Response, idle_s: float) -> bytes:
    return render(response, keep_alive=True, idle_s=idle_s)


async def trickle(conn: Connection, request: Request, fault: Fault, response: Response) -> None:
    """One byte each `every_s`: of the whole answer, or (`where: body`) of its body after a whole head."""
    every_s = 1.0 if fault.every_s is None else fault.every_s
    whole = conn.bytes_of(request, response)
    start = len(whole) - len(response.body) if fault.where == "body" else 0
    conn.write(whole[:start])
    for index in range(start, len(whole)):
        await asyncio.sleep(every_s)
        await conn.drained()
        conn.write(whole[index : index + 1])


async def informational(conn: Connection, fault: Fault) -> None:
    """`size` interim responses (1000 unless said), 100 and 103 in turn."""
    for index in range(1000 if fault.size is None else fault.size):
        line = (
            b"100 Continue\r\n\r\n"
            if index % 2 == 0
            else b"103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
        )
        conn.write(b"HTTP/1.1 " + line)
        await conn.drained()


def _answer_prefix(request: Request) -> bytes:
    """The beginning of a JSON object that holds the order's id; `"}` ends it."""
    order_id = "ord-none" if request.order is None else request.order.order_id
    return encode({"orderId": order_id, "padding": ""})[:-2]


async def huge(conn: Connection, request: Request, fault: Fault) -> None:
    """A 201 whose valid JSON body (with or without a length), or whose header section, has `size` bytes."""
    size = _HUGE_BYTES if fault.size is None else fault.size
    prefix, suffix = _answer_prefix(request), b'"}'
    if fault.where == "header":
        await _huge_header(conn, size, prefix + suffix)
        return
    chunked = fault.where == "chunked"
    size = max(size, len(prefix) + len(suffix))
    extra = (("Transfer-Encoding", "chunked"),) if chunked else ()
    length = None if chunked else size
    conn.write(head_lines(Response(status=201, headers=extra), length=length, keep_alive=True, idle_s=conn.idle_s))
    padding = size - len(prefix) - len(suffix)
    pieces = [prefix, *([b"x" * min(_MIB, padding)] * (padding // _MIB)), b"x" * (padding % _MIB), suffix]
    for piece in pieces:
        if piece:
            conn.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece, keep=False)
            await conn.drained()
    conn.write(b"0\r\n\r\n" if chunked else b"")


async def _huge_header(conn: Connection, size: int, body: bytes) -> None:
    conn.write(b"HTTP/1.1 201 Created\r\n")
    for index in range(max(1, size // _HEADER_LINE_BYTES)):
        name = b"X-Padding-%d: " % index
        conn.write(name + b"x" * (_HEADER_LINE_BYTES - len(name) - 2) + b"\r\n", keep=False)
        await conn.drained()
    conn.write(b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def _flushed(data: bytes) -> bytes:
    """Deflate blocks that stand for `data`, end on a byte and refer to nothing before: they can be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)


async def gzip_bomb(conn: Connection, request: Request, fault: Fault) -> None:
    """A 201 in a correct gzip coding: small on the wire, `size` bytes (64 MiB unless said) when unpacked."""
    size = _HUGE_BYTES if fault.size is None else fault.size
    prefix, suffix, block = _answer_prefix(request), b'"}', b"x" * _MIB
    padding = max(0, size - len(prefix) - len(suffix))
    plain = [prefix, *([block] * (padding // _MIB)), block[: padding % _MIB] + suffix]
    packed_block = _flushed(block)
    packed = [packed_block if piece is block else _flushed(piece) for piece in plain]
    wire = sum(map(len, packed)) + len(_GZIP_HEAD) + len(_GZIP_END) + 8
    response = Response(status=201, headers=(("Content-Encoding", "gzip"),))
    conn.write(head_lines(response, length=wire, keep_alive=True, idle_s=conn.idle_s) + _GZIP_HEAD)
    check = total = 0
    for piece, coded in zip(plain, packed, strict=True):
        check, total = zlib.crc32(piece, check), total + len(piece)
        conn.write(coded, keep=False)
        await conn.drained()
        await asyncio.sleep(0)  # the check sum of 10 GiB takes seconds; others are served meanwhile
    conn.write(_GZIP_END + check.to_bytes(4, "little") + (total & 0xFFFF_FFFF).to_bytes(4, "little"))
