"""Reads one HTTP/1.1 response from bytes as they come. No I/O: bytes in, a whole response or `Broken` out.

llhttp (in httptools) does the parsing. It is strict about line ends, lengths and chunk sizes, but it accepts more
than one reading in a few places, and each of those is refused here:

- a transfer coding other than `chunked` alone (it reads on until the end of the connection);
- `RTSP/` and `ICE/` start lines, HTTP/0.9 and HTTP/2.0 in a start line, status codes below 100 and above 599;
- empty lines before a response, and after it (they would be swallowed, and the connection used again);
- control characters in the reason phrase;
- a second response behind the first one, which it would report as if it had been asked for.
"""

import io

import httptools
import msgspec

MAX_HEAD_BYTES = 64 * 1024
"""Of a response's start line and headers, those of the 1xx responses before it included."""
MAX_HEADERS = 256
"""Header lines of one response; trailers are counted for themselves, and dropped."""
MAX_INTERIM = 10
"""1xx responses before the one that counts."""
MAX_FRAMING_FACTOR = 8
"""Raw bytes a body may take for each byte allowed: chunks of one byte each take six."""
MAX_LENGTH_DIGITS = 19
"""As many as the largest 64-bit number has; leading zeros beyond that are nobody's honest length."""

_END_OF_HEAD = b"\r\n\r\n"
_CONTROLS = bytes(c for c in (*range(0x20), 0x7F) if c not in b"\t\r\n")


class Broken(Exception):
    """What came is not one whole, readable response. The text is for logs: fixed words, nothing received."""


class RawResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A whole response as received. `head` is the raw start line and headers, 1xx included.

    `reusable`: the connection ended exactly with this response and may carry another request.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    head: bytes
    reusable: bool


class ResponseReader:
    """Feed it until it says True, then take `response()`. One reader for one response."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_checked",
        "_chunked",
        "_complete",
        "_fault",
        "_head",
        "_headers",
        "_headers_done",
        "_interim",
        "_leftover",
        "_max_body_bytes",
        "_parser",
        "_persistent",
        "_received",
        "_status",
        "_tail",
        "_trailers",
        "_until_eof",
    )

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._fault = ""
        self._head = bytearray()
        self._headers: list[tuple[bytes, bytes]] = []
        self._trailers = 0
        # Unlike an array of bytes, a large body is not copied once more at the end.
        self._body = io.BytesIO()
        self._body_bytes = 0
        self._received = 0
        self._tail = b""
        self._status = 0
        self._interim = 0
        self._headers_done = self._checked = self._complete = False
        self._chunked = self._until_eof = self._persistent = self._leftover = False

    # -- what the connection calls

    def feed(self, data: bytes) -> bool:
        """True once the response is whole. Raises `Broken`; after that the reader is of no use."""
        parser = self._parser
        if parser is None:
            raise Broken("bytes after the response")
        self._received += len(data)
        self._tail = data[-5:] if len(data) >= 5 else (self._tail + data)[-5:]
        if not self._checked:
            self._head += data
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # Behind a whole response an error only says that more bytes followed it.
            if not self._complete:
                self._parser = None
                raise Broken(self._fault or f"not HTTP: {error}") from None
            self._leftover = True
        if not self._checked:
            self._check_head()
        if self._received > MAX_HEAD_BYTES + MAX_FRAMING_FACTOR * self._max_body_bytes:
            raise Broken("too many bytes for the body they carry")
        if self._complete:
            self._end()
        return self._complete

    def eof(self) -> bool:
        """The peer has closed its side in good order. True when that ends the response, else raises `Broken`."""
        if not (self._checked and self._until_eof):
            raise Broken("the connection ended before a whole response")
        self._complete, self._parser = True, None
        return True

    def response(self) -> RawResponse:
        """The whole response; call it only once `feed` or `eof` returned True."""
        return RawResponse(
            status=self._status,
            headers=self._headers,
            body=self._body.getvalue(),
            head=bytes(self._head),
            reusable=self._persistent and not self._leftover and not self._until_eof,
        )

    # -- what the parser calls; an exception in one of these ends the parsing, `_fault` says why

    def on_message_begin(self) -> None:
        if self._complete:
            raise Broken("a second response")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headers_done:
            self._headers.append((name, value.rstrip(b" \t")))
            return
        self._trailers += 1
        if self._trailers > MAX_HEADERS:
            self._refuse("too many headers")

    def on_headers_complete(self) -> None:
        parser = self._parser
        status = parser.get_status_code() if parser is not None else 0
        if parser is not None and status >= 200:
            self._status, self._headers_done = status, True
            # Asked here: once the message is over, llhttp has forgotten what it was framed by.
            self._persistent = parser.should_keep_alive()
        elif status < 100 or status == 101:
            self._refuse("switched to another protocol" if status == 101 else "no such status")
        else:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                self._refuse("too many interim responses")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._max_body_bytes:
            self._refuse("larger than allowed")
        self._body.write(body)

    def on_message_complete(self) -> None:
        if self._headers_done:
            self._complete = True
        else:
            self._headers.clear()

    # -- own checks

    def _refuse(self, fault: str) -> None:
        self._fault = fault
        raise Broken(fault)

    def _check_head(self) -> None:
        """Once the headers are whole: cut the raw head off, and refuse what can be read in two ways."""
        if len(self._headers) > MAX_HEADERS:
            raise Broken("too many headers")
        if not self._headers_done:
            if len(self._head) > MAX_HEAD_BYTES:
                raise Broken("headers larger than allowed")
            return
        raw = bytes(self._head)
        end = start = 0
        for _ in range(self._interim + 1):
            start, end = end, raw.find(_END_OF_HEAD, end) + len(_END_OF_HEAD)
            if not raw.startswith((b"HTTP/1.1 ", b"HTTP/1.0 "), start) or end <= start:
                raise Broken("not an HTTP/1 response")
        head = raw[:end]
        if len(head) > MAX_HEAD_BYTES:
            raise Broken("headers larger than allowed")
        if self._status > 599 or len(head.translate(None, _CONTROLS)) != len(head):
            raise Broken("a start line that cannot be")
        self._head = bytearray(head)
        self._check_framing(is_http_11=head.startswith(b"HTTP/1.1 ", start))
        self._checked = True

    def _check_framing(self, *, is_http_11: bool) -> None:
        lengths, codings = [], []
        for name, value in self._headers:
            lower = name.lower()
            if lower == b"content-length":
                lengths.append(value)
            elif lower == b"transfer-encoding":
                codings.append(value.lower())
            elif lower == b"content-encoding" and value.lower() not in (b"", b"identity"):
                raise Broken("encoded")
        if codings and (lengths or codings != [b"chunked"] or not is_http_11):
            raise Broken("a transfer coding that can be read in two ways")
        if lengths and (len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > MAX_LENGTH_DIGITS):
            raise Broken("a length that can be read in two ways")
        if lengths and int(lengths[0]) > self._max_body_bytes and self._status != 304:
            raise Broken("larger than allowed")
        self._chunked = bool(codings)
        self._until_eof = not (codings or lengths or self._status in (204, 304))
        self._persistent = self._persistent and is_http_11

    def _end(self) -> None:
        """The response is whole: see whether anything came behind it, and let go of the parser.

        llhttp swallows line ends behind a response, so they are counted; behind chunks, whose raw length is not
        known, the last line of a whole response is empty and the one before it is not.
        """
        if self._chunked:
            exact = self._tail.endswith(_END_OF_HEAD) and self._tail[:1] not in (b"\r", b"\n")
        else:
            exact = self._received == len(self._head) + self._body_bytes
        self._leftover = self._leftover or not exact
        # The parser holds this object's methods: without this each response would be a cycle for the collector.
        self._parser = None
