"""Bytes in, requests out: HTTP/1.1 read with httptools, with limits on its size. No sockets here.

The parser's callbacks only gather. What they gathered is acted upon after the parser has returned, so that an
error in the sandbox is never taken for one in the request.
"""

from typing import Literal

import httptools

from gateway.sandbox.answers import Response, nest_error
from gateway.sandbox.records import Moment, Request

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_HEAD_BYTES = 128 * 1024

# `head`: the headers were read, the body may be to come. `whole`: the same request with its body.
Event = tuple[Literal["head", "whole"], Request]


class RequestReader:
    """Reads one connection. After a refusal, or a request that ends the connection, it reads nothing more."""

    def __init__(self, connection: int) -> None:
        self._connection = connection
        self._parser = httptools.HttpRequestParser(self)
        self._events: list[Event] = []
        self._moment = Moment(0, 0)
        self._request: Request | None = None
        self._ended = False
        self.count = 0
        self.between = True  # no byte of a next request was seen
        self._clear()

    def _clear(self) -> None:
        self._first = self._moment
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._head_size = self._body_size = 0

    def feed(self, data: bytes, moment: Moment) -> tuple[list[Event], Response | None]:
        """What `data`, read at `moment`, completed; and the answer to close with, where it cannot be read."""
        if self._ended:
            return [], None
        self._events, self._moment = [], moment
        refusal: Response | None = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # answered like any other request, and the connection closed behind it
        except httptools.HttpParserError as error:
            refusal = nest_error(400, f"Bad Request: {error}")
        if self._request is None and not self.between:
            self._head_size += len(data)
        if self._head_size > MAX_HEAD_BYTES:
            refusal = nest_error(431, "Request Header Fields Too Large")
        if self._body_size > MAX_BODY_BYTES:
            refusal = nest_error(413, "request entity too large")
        if refusal is not None:
            self._ended = True
        return self._events, refusal

    def on_message_begin(self) -> None:
        self.between = False
        self._clear()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if self._ended:
            return
        self.count += 1
        self._request = Request(
            connection=self._connection,
            number=self.count,
            received=self._first,
            counted=self._moment,
            method=self._parser.get_method().decode("latin-1"),
            target=self._target.decode("latin-1"),
            headers=self._headers,
            keep_alive=self._parser.should_keep_alive() and not self._parser.should_upgrade(),
        )
        self._head_size = 0
        self._events.append(("head", self._request))

    def on_body(self, body: bytes) -> None:
        self._body_size += len(body)
        if self._body_size <= MAX_BODY_BYTES:
            self._body.append(body)

    def on_message_complete(self) -> None:
        request, self._request = self._request, None
        if request is None or self._body_size > MAX_BODY_BYTES:
            return
        request.body = b"".join(self._body)
        request.complete = True
        self._events.append(("whole", request))
        self._ended = self._ended or not request.keep_alive
        self.between = True
