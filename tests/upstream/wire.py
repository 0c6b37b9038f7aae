"""A raw server that follows a script, records every byte it gets, and places orders against itself."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import msgspec

from gateway.clock import Clock, SystemClock
from gateway.core.evidence import Answered, Evidence
from gateway.upstream.operations import OfferGrid
from gateway.upstream.transport import TransportOptions, UpstreamTransport

KEY = "ogk-live/41c9Zx-SECRET"
OK_BODY = b'{"orderId":"ord-1"}'
OK = b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: 19\r\n\r\n" + OK_BODY
WHOLE = Answered(status=201, body=OK_BODY, content_type="application/json")

T = TypeVar("T")


class PlainKey:
    """Stands for the vault's Secret."""

    def __init__(self, text: str = KEY) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "PlainKey(***)"


class FakeClock(SystemClock):
    """The system's clocks, some seconds ahead."""

    __slots__ = ("ahead_s",)

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self._reader, self._writer = reader, writer
        self.number = number
        self.received = bytearray()
        self._taken = 0
        self.ended = asyncio.Event()
        self.was_reset = False

    async def read(self) -> bytes:
        """Some bytes, or none once the other side is gone in whatever way."""
        try:
            data = await self._reader.read(65536)
        except OSError:
            data, self.was_reset = b"", True
        self.received += data
        if not data:
            self.ended.set()
        return data

    async def read_to_end(self) -> None:
        while await self.read():
            pass

    async def head(self) -> bytes:
        """Up to the empty line of the next request; the body may be there or not."""
        while (end := self.received.find(b"\r\n\r\n", self._taken)) < 0:
            if not await self.read():
                raise EOFError
        return bytes(self.received[self._taken : end + 4])

    async def request(self) -> bytes:
        """The next whole request, as raw bytes."""
        head = await self.head()
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        end = self._taken + len(head) + length
        while len(self.received) < end:
            if not await self.read():
                raise EOFError
        start, self._taken = self._taken, end
        return bytes(self.received[start:end])

    async def send(self, *pieces: bytes) -> None:
        """Each piece in a packet of its own, as far as that can be had. A peer that is gone is no fault."""
        for piece in pieces:
            with contextlib.suppress(OSError):
                self._writer.write(piece)
                await self._writer.drain()
            await asyncio.sleep(0)

    async def stream(self, data: bytes, pause_s: float, until: asyncio.Event) -> None:
        """One byte at a time until the other side has had enough."""
        for at in range(len(data)):
            if until.is_set():
                return
            with contextlib.suppress(OSError):
                self._writer.write(data[at : at + 1])
            await asyncio.sleep(pause_s)

    def stop_reading(self) -> None:
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport has it

    def read_again(self) -> None:
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]  # a socket's transport has it

    def is_gone(self) -> bool:
        return self._writer.transport.is_closing()

    def finish(self) -> None:
        """FIN: nothing more will be sent, but more could be read."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """RST, at once."""
        sock = self._writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class Server:
    """Every connection it got, in order."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.peers: list[Peer] = []
        self.port = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(reader, writer, len(self.peers))
        self.peers.append(peer)
        try:
            with contextlib.suppress(EOFError, asyncio.CancelledError):
                await self._script(peer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def has_taken(self, count: int) -> bool:
        return len(self.peers) >= count

    @property
    def received(self) -> bytes:
        return b"".join(bytes(peer.received) for peer in self.peers)


@contextlib.asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(script)
    listener = await asyncio.start_server(server.take, "127.0.0.1", 0, ssl=tls, limit=1 << 22)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await server.stop()
        await listener.wait_closed()
        await asyncio.sleep(0)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a test changes of the transport's options and of each order."""

    scheme: str = "http"
    host: str = "127.0.0.1"
    prefix: str = ""
    connect_timeout_s: float = 5
    keepalive_idle_s: float = 60
    max_response_bytes: int = 1_000_000
    max_listing_bytes: int = 4_000_000
    max_idle_connections: int = 8
    timeout_s: float = 10
    ssl_context: ssl.SSLContext | None = None


class Sender:
    """A transport with the operations on top, against one port."""

    def __init__(self, port: int, settings: Settings, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.settings = settings
        self.base_url = f"{settings.scheme}://{settings.host}:{port}{settings.prefix}"
        self.transport = UpstreamTransport(
            TransportOptions(
                base_url=self.base_url,
                connect_timeout_s=settings.connect_timeout_s,
                keepalive_idle_s=settings.keepalive_idle_s,
                max_response_bytes=settings.max_response_bytes,
                max_idle_connections=settings.max_idle_connections,
                ssl_context=settings.ssl_context,
            ),
            self.clock,
        )
        self.offergrid = OfferGrid(self.transport, self.base_url, max_listing_bytes=settings.max_listing_bytes)

    async def place(
        self,
        body: bytes = b'{"items":[]}',
        *,
        request_id: str = "req-1",
        timeout_s: float | None = None,
        may_send: Callable[[], bool] = lambda: True,
        key: str | PlainKey = KEY,
    ) -> Evidence:
        deadline = self.clock.monotonic() + (self.settings.timeout_s if timeout_s is None else timeout_s)
        return await self.offergrid.place(
            body,
            request_id=request_id,
            traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            key=PlainKey(key) if isinstance(key, str) else key,
            deadline=deadline,
            may_send=may_send,
        )

    async def list_orders(
        self, *, timeout_s: float | None = None, page: str | None = None, spent_bytes: int = 0
    ) -> Evidence:
        deadline = self.clock.monotonic() + (self.settings.timeout_s if timeout_s is None else timeout_s)
        return await self.offergrid.list_orders(
            key=PlainKey(), deadline=deadline, page=page, spent_bytes=spent_bytes
        )


@contextlib.asynccontextmanager
async def against(
    script: Script,
    settings: Settings | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[tuple[Sender, Server]]:
    async with serving(script, tls) as server:
        sender = Sender(server.port, settings or Settings(), clock)
        try:
            yield sender, server
        finally:
            await sender.transport.aclose()


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(main)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the test's own time limit ends a wait for what never comes."""
    while not condition():  # noqa: ASYNC110 - what is waited for sets no event
        await asyncio.sleep(0.001)


def place_once(script: Script, settings: Settings | None = None) -> tuple[Evidence, bytes]:
    """One order against a script: its evidence, and every byte that the server got."""

    async def main() -> tuple[Evidence, bytes]:
        async with against(script, settings) as (sender, server):
            evidence = await sender.place()
            await until(lambda: all(peer.ended.is_set() or peer.received for peer in server.peers))
            return evidence, server.received

    return run(main())
