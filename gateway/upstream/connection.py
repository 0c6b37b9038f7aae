"""One connection to OfferGrid: carries one request at a time, each exactly once, and knows when it is of no use."""

import asyncio
import contextlib
import select
import socket
import struct
from collections.abc import Callable
from typing import cast

from gateway.upstream.failure import AttemptFailed, sent
from gateway.upstream.response import Broken, RawResponse, ResponseReader

# How long the kernel may go on sending what nobody acknowledges. Attempts have deadlines of their own; this one is
# for what the kernel still holds when the process is gone or stopped.
_USER_TIMEOUT_MS = 30_000
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class UpstreamConnection(asyncio.Protocol):
    """An HTTP/1.1 connection: `begin` writes a request, `finish` waits for its response, one after the other.

    `on_lost` is called once, when the connection is gone. `idle_since` (monotonic seconds) is the free list's own.
    """

    def __init__(self, on_lost: Callable[["UpstreamConnection"], None]) -> None:
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._encrypted = False
        self._spoiled = False
        self.used = False
        self._reader: ResponseReader | None = None
        self._answer: asyncio.Future[RawResponse] | None = None
        self.lost = False
        self.idle_since = 0.0

    # -- for the transport

    def usable(self, *, fresh: bool = False) -> bool:
        """Whether a request may be written now: open, and nothing arrived that nobody asked for.

        The socket itself is asked too, since the event loop may not have seen yet that the peer has closed. Not so
        where a TLS connection is `fresh`: the peer's session tickets may just be on their way.
        """
        transport = self._transport
        if transport is None or self._spoiled or self.lost or self._answer is not None or transport.is_closing():
            return False
        if self._poll is None or (self._encrypted and fresh):
            return True
        return not self._poll.poll(0)

    def is_open(self) -> bool:
        """Whether it is worth keeping for another request, as far as the event loop has seen."""
        return not (self._spoiled or self.lost)

    def begin(self, request: bytes, max_body_bytes: int) -> None:
        """Hand one whole request to the kernel. From here on the attempt is `sent`, whatever happens.

        A response to it with a longer body than that is broken.
        """
        if self._transport is None or self._answer is not None:
            raise RuntimeError("a request was begun on a connection that cannot take one")
        self.used = True
        self._reader = ResponseReader(max_body_bytes)
        self._answer = asyncio.get_running_loop().create_future()
        try:
            self._transport.write(request)
        except Exception as error:  # noqa: BLE001 - some of it may be out; `finish` says so, without these frames
            self._fail(sent("broken", f"the write failed: {type(error).__name__}"))

    async def finish(self, timeout_s: float) -> RawResponse:
        """The response to what `begin` wrote, whole within `timeout_s`, else `AttemptFailed(Sent)`.

        The connection is of further use only when `response.reusable`; in every other case it is closed here, also
        when the waiting task is cancelled.
        """
        answer = self._answer
        if answer is None:
            raise RuntimeError("no request was begun")
        timer = asyncio.get_running_loop().call_later(timeout_s, self._expire)
        reusable = False
        try:
            response = await answer
            reusable = response.reusable and self._all_written()
            return response
        except (AttemptFailed, asyncio.CancelledError):
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen, also where the cancelling came first
            self.reset()
            raise
        finally:
            timer.cancel()
            self._answer = self._reader = None
            if not reusable:
                self.abort()

    def abort(self) -> None:
        """Close at once; what is not written yet is dropped."""
        self._spoiled = True
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """Close so that the kernel drops what it has not sent, too: an order must not go out after its deadline."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.abort()

    # -- for the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._encrypted = transport.get_extra_info("ssl_object") is not None
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
        self._poll = select.poll()
        self._poll.register(sock.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None or self._answer is None or self._answer.done():
            # Nobody asked for these bytes. They can never be told from an answer to the next request.
            self.abort()
            return
        try:
            if reader.feed(data):
                self._answer.set_result(reader.response())
        except Broken as fault:
            self._fail(sent("broken", str(fault)))

    def eof_received(self) -> None:
        reader = self._reader
        if reader is None or self._answer is None or self._answer.done():
            self._spoiled = True
            return
        try:
            if reader.eof():
                self._answer.set_result(reader.response())
        except Broken as fault:
            self._fail(sent("broken", str(fault)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = self._spoiled = True
        self._poll = None
        self._fail(sent("broken", f"the connection was lost: {type(exc).__name__ if exc else 'closed'}"))
        self._on_lost(self)

    # -- inside

    def _expire(self) -> None:
        self._fail(sent("timeout", "no whole response before the deadline"))

    def _fail(self, failure: AttemptFailed) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(failure)

    def _all_written(self) -> bool:
        return self._transport is not None and self._transport.get_write_buffer_size() == 0
