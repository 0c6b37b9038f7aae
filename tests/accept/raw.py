"""Requests as bytes over a bare socket, for what no well-behaved library would send."""

import json
import select
import socket
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from tests.support.stack import an_order

WAIT_S: Final = 30
BODY: Final = json.dumps(an_order(notes="0" * 32)).encode()


class RawConnection:
    """One connection. Answers are read one at a time, by their content-length."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._socket = socket.create_connection((place.hostname or "", place.port or 80), WAIT_S)
        self._bytes = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send_slowly(self, data: bytes, every_s: float) -> None:
        """One byte at a time, until the other side says something or ends the connection."""
        news = select.poll()
        news.register(self._socket, select.POLLIN)
        for byte in data:
            try:
                self._socket.send(bytes([byte]))
            except ConnectionError:
                return
            if news.poll(every_s * 1000):
                return

    def send_what_is_taken(self, data: bytes, patience_s: float) -> int:
        """Sends until the other side takes nothing for so long, or all is sent; how many bytes."""
        room = select.poll()
        room.register(self._socket, select.POLLOUT)
        left = memoryview(data)
        self._socket.setblocking(False)
        while left and room.poll(patience_s * 1000):
            left = left[self._socket.send(left) :]
        self._socket.settimeout(WAIT_S)
        return len(data) - len(left)

    def answer(self, *, body: bool = True) -> httpx.Response:
        """The next answer; `body` is False for the answer to a HEAD. EOFError where there is none."""
        while b"\r\n\r\n" not in self._bytes:
            self._read()
        head, _, self._bytes = self._bytes.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        size = int(dict(headers).get("content-length", "0")) if body else 0
        while len(self._bytes) < size:
            self._read()
        content, self._bytes = self._bytes[:size], self._bytes[size:]
        return httpx.Response(int(first.split(" ")[1]), headers=headers, content=content)

    def is_closed(self) -> bool:
        """Whether the other side ends the connection without another byte."""
        assert not self._bytes, self._bytes
        try:
            return self._socket.recv(1) == b""
        except ConnectionError:
            return True

    def _read(self) -> None:
        try:
            part = self._socket.recv(65_536)
        except ConnectionError:
            part = b""
        if not part:
            raise EOFError(self._bytes)
        self._bytes += part


def request(
    *lines: str | bytes,
    first: str | bytes = "POST /orders HTTP/1.1",
    host: str | bytes | None = "Host: gateway",
    token: str | None = None,
    body: bytes | None = None,
    length: bool = True,
    kind: str | None = "application/json",
) -> bytes:
    """One request. `lines` are further header lines; `length` adds the body's content-length.

    Without a `body` it is an order as long as `BODY` and like no other: the same body would be the same order.
    """
    if body is None:
        body = BODY.replace(b"0" * 32, uuid4().hex.encode())
    head: list[str | bytes] = [first]
    head += [host] if host is not None else []
    head += [f"Authorization: Bearer {token}"] if token else []
    head += [f"Content-Type: {kind}"] if kind else []
    head += [f"Content-Length: {len(body)}"] if length else []
    whole = [line if isinstance(line, bytes) else line.encode("latin-1") for line in (*head, *lines)]
    return b"\r\n".join(whole) + b"\r\n\r\n" + body


def exchange(url: str, data: bytes, *, body: bool = True) -> httpx.Response:
    """The first answer to these bytes on a connection of their own."""
    with RawConnection(url) as connection:
        connection.send(data)
        return connection.answer(body=body)
