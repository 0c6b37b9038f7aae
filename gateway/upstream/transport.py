"""OfferGrid as an `httpx.AsyncBaseTransport`: one origin, one attempt a request, and exact evidence of each.

It never sends a request twice, never follows a redirect and reads nothing from the environment. It alone opens an
upstream key, directly before the bytes are written, and takes it out of everything that comes back.

What a request's `extensions` say:

- `ordergate.deadline` (float, required): the monotonic instant that bounds the whole attempt, from connecting to the
  last byte of the response;
- `ordergate.key` (`RevealsKey`, required): the key to send;
- `ordergate.may_send` (`Callable[[], bool]`): asked directly before the first byte. False: nothing is sent;
- `ordergate.max_response_bytes` (int): a longer body is broken. Else `TransportOptions.max_response_bytes` holds.

A response has `ordergate.reused` (bool) in its `extensions`: whether the connection had carried a request before.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import Final, Protocol, cast

import httpx
import msgspec

from gateway.clock import Clock
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.dialing import dial
from gateway.upstream.failure import AttemptFailed, not_sent
from gateway.upstream.masking import holds_escape_or, mask, mask_in_turns
from gateway.upstream.response import RawResponse
from generated.operations import PLACE

__all__ = ["AttemptFailed", "RevealsKey", "TransportOptions", "UpstreamTransport"]

# A socket is closed one round of the event loop after it was aborted, a TLS one a few: far more than is ever needed.
_CLOSING_ROUNDS = 1000
_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
# Written by the transport itself, from what it knows; whatever a request says of them is left out.
_OWN_HEADERS = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"te", b"trailer"}
)


class RevealsKey(Protocol):
    """An upstream key that nobody can read by accident."""

    def reveal(self) -> str:
        """The key as text, as it goes into the header."""


class TransportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the transport needs to know of the settings.

    `base_url` may have a path, which the transport does not look at. `ssl_context` is required for https and unused
    for http. `key_header` is the header that carries the upstream key. `max_response_bytes` is of a body, where the
    request does not say otherwise.
    """

    base_url: str
    connect_timeout_s: float
    keepalive_idle_s: float
    max_response_bytes: int
    max_idle_connections: int
    ssl_context: ssl.SSLContext | None = None
    key_header: str = PLACE.key_header


class _Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a request's extensions say."""

    deadline: float
    key: RevealsKey
    may_send: Callable[[], bool]
    max_response_bytes: int


class UpstreamTransport(httpx.AsyncBaseTransport):
    """Belongs to one event loop. How many attempts run at a time is for admission to say, not limited here."""

    def __init__(self, options: TransportOptions, clock: Clock) -> None:
        url = httpx.URL(options.base_url)
        if url.scheme not in _PORTS or not url.host:
            raise ValueError("base_url must be an http or https URL")
        if url.scheme == "https" and options.ssl_context is None:
            raise ValueError("an https base_url needs an ssl_context")
        self._options = options
        self._clock = clock
        self._origin = (url.raw_scheme, url.raw_host, url.port)
        self._host, self._port = url.host, url.port or _PORTS[url.scheme]
        self._tls = options.ssl_context if url.scheme == "https" else None
        self._host_line = b"host: " + url.netloc + b"\r\n"
        self._key_header = options.key_header.lower().encode("ascii")
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self._pruning: asyncio.TimerHandle | None = None
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One attempt. The response is whole and its key is masked; anything else is `AttemptFailed`."""
        terms = self._terms(request)
        body = await request.aread()
        connection, reused = await self._connection(terms.deadline)
        refusal = self._write(connection, request, body, terms)
        if refusal is not None:
            self._release(connection)
            raise refusal
        raw = await connection.finish(terms.deadline - self._clock.monotonic())
        connection.idle_since = self._clock.monotonic()
        self._release(connection)
        return await self._response(raw, terms.key, reused=reused)

    async def aclose(self) -> None:
        """Close every connection, those with an attempt under way too, and wait until their sockets are closed."""
        self._closed = True
        if self._pruning is not None:
            self._pruning.cancel()
        for _ in range(_CLOSING_ROUNDS):
            if not self._open:
                return
            for connection in tuple(self._open):
                connection.abort()
            await asyncio.sleep(0)

    # -- before the write

    def _terms(self, request: httpx.Request) -> _Terms:
        extensions = request.extensions
        url = request.url
        if (url.raw_scheme, url.raw_host, url.port) != self._origin:
            raise not_sent("defect", "the request is for another origin")
        if "ordergate.deadline" not in extensions or "ordergate.key" not in extensions:
            raise not_sent("defect", "the request has no deadline or no key")
        limit = extensions.get("ordergate.max_response_bytes", self._options.max_response_bytes)
        return _Terms(
            deadline=float(extensions["ordergate.deadline"]),
            key=cast(RevealsKey, extensions["ordergate.key"]),
            may_send=cast(Callable[[], bool], extensions.get("ordergate.may_send", _always)),
            max_response_bytes=int(limit),
        )

    async def _connection(self, deadline: float) -> tuple[UpstreamConnection, bool]:
        """An idle connection that is still good, the one used last first; else a new one. And whether it is old."""
        if self._closed:
            raise not_sent("no_connection", "the transport is closed")
        oldest = self._clock.monotonic() - self._options.keepalive_idle_s
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since >= oldest and connection.usable():
                return connection, connection.used
            connection.abort()
        connection = await self._dial(deadline)
        if not connection.usable(fresh=True):
            connection.abort()
            raise not_sent("no_connection", "closed, or bytes arrived, before anything was sent")
        return connection, False

    async def _dial(self, deadline: float) -> UpstreamConnection:
        timeout_s = min(self._options.connect_timeout_s, deadline - self._clock.monotonic())
        if timeout_s <= 0:
            raise not_sent("too_late", "the deadline had passed before connecting")
        connection = UpstreamConnection(self._forget)
        await dial(connection, self._host, self._port, self._tls, timeout_s)
        connection.idle_since = self._clock.monotonic()
        if not connection.lost:
            self._open.add(connection)
        if self._closed:
            connection.abort()
        return connection

    def _write(
        self, connection: UpstreamConnection, request: httpx.Request, body: bytes, terms: _Terms
    ) -> AttemptFailed | None:
        """Write the request, or return why not a byte of it was written.

        Nothing is raised here, so that no traceback leads through a frame that holds the key.
        """
        try:
            head = self._head(request, len(body), terms.key)
        except Exception as error:  # noqa: BLE001 - a key that cannot be opened, whatever the reason, is not sent
            return not_sent("defect", f"the request cannot be written: {type(error).__name__}")
        if head is None:
            return not_sent("defect", "a header or the key cannot be written as HTTP")
        refusal = self._refusal(terms.deadline, terms.may_send)
        if refusal is None:
            connection.begin(head + body, terms.max_response_bytes)
        return refusal

    def _refusal(self, deadline: float, may_send: Callable[[], bool]) -> AttemptFailed | None:
        """The last questions before the first byte; nothing but the write comes after them."""
        if self._clock.monotonic() >= deadline:
            return not_sent("too_late", "the deadline had passed before the first byte")
        try:
            allowed = may_send()
        except Exception as error:  # noqa: BLE001 - whoever cannot say that it still owns the order does not own it
            return not_sent("too_late", f"may_send failed: {type(error).__name__}")
        return None if allowed else not_sent("too_late", "no longer allowed to send")

    def _head(self, request: httpx.Request, length: int, key: RevealsKey) -> bytes | None:
        """Start line and headers, or None where one of them would be read as more than it is."""
        lines = [b"%b %b HTTP/1.1\r\n%b" % (request.method.encode("ascii"), request.url.raw_path, self._host_line)]
        for name, value in request.headers.raw:
            lower = name.lower()
            if lower not in _OWN_HEADERS and lower != self._key_header:
                lines.append(b"%b: %b\r\n" % (lower, value))
        text = key.reveal()
        if not text or not text.isascii() or not text.isprintable():
            return None
        lines.append(b"%b: %b\r\ncontent-length: %d\r\n\r\n" % (self._key_header, text.encode("ascii"), length))
        head = b"".join(lines)
        # One line end a line and two more at the end of the first and the last piece: any other is inside a value.
        expected = len(lines) + 3
        if head.count(b"\n") != expected or head.count(b"\r") != expected or b"\0" in head:
            return None
        return head

    # -- after the response

    async def _response(self, raw: RawResponse, key: RevealsKey, *, reused: bool) -> httpx.Response:
        secret = key.reveal().encode("ascii")
        headers = raw.headers
        if holds_escape_or(raw.head, secret):
            headers = [(mask(name, secret), mask(value, secret)) for name, value in headers]
        return httpx.Response(
            raw.status,
            headers=headers,
            stream=httpx.ByteStream(await mask_in_turns(raw.body, secret)),
            extensions={"ordergate.reused": reused},
        )

    def _release(self, connection: UpstreamConnection) -> None:
        if self._closed or not connection.is_open() or len(self._idle) >= self._options.max_idle_connections:
            connection.abort()
            return
        self._idle.append(connection)
        if self._pruning is None:
            self._schedule_pruning()

    def _schedule_pruning(self) -> None:
        """At the moment when the connection that is idle for longest becomes too old."""
        oldest = min(connection.idle_since for connection in self._idle)
        wait_s = oldest + self._options.keepalive_idle_s - self._clock.monotonic()
        self._pruning = asyncio.get_running_loop().call_later(max(wait_s, 0.001), self._prune)

    def _prune(self) -> None:
        self._pruning = None
        oldest = self._clock.monotonic() - self._options.keepalive_idle_s
        for connection in [connection for connection in self._idle if connection.idle_since <= oldest]:
            self._idle.remove(connection)
            connection.abort()
        if self._idle:
            self._schedule_pruning()

    def _forget(self, connection: UpstreamConnection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


def _always() -> bool:
    return True
