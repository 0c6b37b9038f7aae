"""A port in front of the sandbox that does to connections what a network, a proxy or a stranger can do.

with Front(sandbox.port) as front:           # what connects to it speaks with the sandbox
    front.next(script)                       # but the next order meets a script of the test's
    front.close_port(), front.swallow(), front.open_port()
    front.road = Road(...)                   # how each piece of bytes travels

A script is as in `tests/upstream/wire.py`: it gets the server's end of one connection.
"""

import asyncio
import contextlib
import random
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Self, TypeVar

from tests.upstream.wire import Peer, Script

T = TypeVar("T")

_SANDBOX: Final = "127.0.0.1"
_BACKLOG: Final = 512


class Road:
    """How a piece of bytes travels: at once, and all of them arrive."""

    one_way_s = 0.0

    def late_s(self) -> float | None:
        """How long it takes until the piece is sent for good; None where the connection breaks instead."""
        return 0.0


class Rough(Road):
    """Each piece takes `one_way_s`. One in so many is lost and comes `again_s` later, twice that the next time, as
    TCP sends again; some take the whole connection with them. `seed` repeats it, but for the order of connections.
    """

    def __init__(self, *, one_way_s: float, lost: float, again_s: float, broken: float, seed: int) -> None:
        self.one_way_s = one_way_s
        self._lost, self._again_s, self._broken = lost, again_s, broken
        self._chance = random.Random(seed)  # noqa: S311 - no secret: which piece is lost

    def late_s(self) -> float | None:
        if self._chance.random() < self._broken:
            return None
        late, again = 0.0, self._again_s
        while self._chance.random() < self._lost:
            late, again = late + again, again * 2
        return late


class Front:
    """Runs in a thread of its own; every method may be called from any other."""

    def __init__(
        self, behind: int, *, host: str = "127.0.0.1", port: int = 0, receive_bytes: int | None = None
    ) -> None:
        """`behind`: the sandbox's port. `receive_bytes`: how little the kernel takes in before a script reads."""
        self.behind = behind
        self._host = host
        self._receive_bytes = receive_bytes
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="front", daemon=True)
        self._listening: socket.socket | None = None
        self._waiting: list[socket.socket] = []
        self._planned: deque[Script] = deque()
        self._planned_at_accept: deque[Script] = deque()
        self._always: Script | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._peers: list[Peer] = []
        self._open: set[Peer] = set()
        self._accepted = 0
        self.road = Road()
        self.tls: Callable[[], ssl.SSLContext | None] = lambda: None
        # Nobody else gets the port while nothing listens on it.
        self._guard = socket.socket()
        self._guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._guard.bind((host, port))
        self.port: int = self._guard.getsockname()[1]
        self.base_url = f"http://{host}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.open_port()
        return self

    def __exit__(self, *_: object) -> None:
        self.close_port()
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._guard.close()

    # -- what a test says

    def next(self, script: Script) -> None:
        """The next connection that begins with an order meets `script`, those after it the sandbox."""
        self._planned.append(script)

    def next_at_all(self, script: Script) -> None:
        """The next connection meets `script` before a byte is read: a look at the listing may be the one, too."""
        self._planned_at_accept.append(script)

    def always(self, script: Script | None) -> None:
        """Every connection that meets nothing else meets `script`; None: the sandbox."""
        self._always = script

    def close_port(self) -> None:
        """Connecting is refused; connections that are open stay open."""
        self._run(self._call(self._hush))

    def open_port(self) -> None:
        self._run(self._call(lambda: self._listen(_BACKLOG)))

    def swallow(self) -> None:
        """Whoever connects hears nothing, not even a refusal: the kernel drops what asks for a connection."""
        self._run(self._swallow())

    def cut(self) -> None:
        """Every open connection breaks; the other side can see it when this returns."""
        self._run(self._cut())

    async def disappear(self) -> None:
        """For a script: every open connection breaks, its own too, and from now on connecting is refused."""
        self._hush()
        await self._cut()

    def heal(self) -> None:
        """As it was at the beginning. Connections that are open are cut; what was on its way is lost or has arrived."""
        self._planned.clear()
        self._planned_at_accept.clear()
        self.always(None)
        self.road = Road()
        self.tls = lambda: None
        self._run(self._end())
        self.open_port()

    @property
    def accepted(self) -> int:
        """How many connections there were, those among them that never came to speak."""
        return self._accepted

    @property
    def peers(self) -> list[Peer]:
        """The connections on which something could be said, in order; with TLS: after the handshake."""
        return list(self._peers)

    # -- inside, in the thread of its own

    def _run(self, main: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(main, self._loop).result(30)

    async def _call(self, act: Callable[[], T]) -> T:
        return act()

    def _hush(self) -> None:
        if self._listening is not None:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        for sock in self._waiting:
            sock.close()
        self._waiting.clear()

    def _listen(self, backlog: int, *, accept: bool = True) -> None:
        self._hush()
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if self._receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_bytes)
        sock.setblocking(False)
        sock.bind((self._host, self.port))
        sock.listen(backlog)
        self._listening = sock
        if accept:
            self._loop.add_reader(sock, self._accept, sock)

    async def _cut(self) -> None:
        for peer in tuple(self._open):
            peer.reset()
        for _ in range(3):  # a socket is closed some rounds after it was aborted
            await asyncio.sleep(0)

    async def _swallow(self) -> None:
        """A queue of accepted connections that is full: the kernel drops every further SYN."""
        self._listen(0, accept=False)
        while True:
            sock = socket.socket()
            sock.setblocking(False)
            self._waiting.append(sock)
            try:
                async with asyncio.timeout(0.1):
                    await self._loop.sock_connect(sock, (self._host, self.port))
            except TimeoutError:
                return

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = listening.accept()
                sock.setblocking(False)
                self._accepted += 1
                task = self._loop.create_task(self._meet(sock))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _meet(self, sock: socket.socket) -> None:
        at_accept = self._planned_at_accept.popleft() if self._planned_at_accept else None
        reader = asyncio.StreamReader(limit=1 << 22)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, sock, ssl=self.tls())
        except OSError:  # TLS that failed is one, too
            sock.close()
            return
        peer = Peer(reader, asyncio.StreamWriter(transport, protocol, reader, self._loop), len(self._peers))
        self._peers.append(peer)
        self._open.add(peer)
        try:
            with contextlib.suppress(EOFError):
                await (at_accept or self._always or self._pass_on)(peer)
        finally:
            self._open.discard(peer)
            peer.reset()

    async def _pass_on(self, peer: Peer) -> None:
        """To the sandbox and back, until an order comes that a script is planned for."""
        reader, writer = await asyncio.open_connection(_SANDBOX, self.behind)

        async def forth() -> Script | None:
            while data := await peer.read():
                if self._planned and data.startswith(b"POST"):
                    peer._taken = len(peer.received) - len(data)
                    return self._planned.popleft()
                await self._travel(peer.is_gone)
                writer.write(data)
            if peer.was_reset:
                raise ConnectionResetError("broken off by who connected")
            writer.write_eof()
            return None

        async def back() -> None:
            while data := await reader.read(1 << 16):
                await self._travel(writer.is_closing)
                await peer.send(data)
            peer.finish()

        try:
            async with asyncio.TaskGroup() as ways:
                going = ways.create_task(forth())
                coming = ways.create_task(back())
                script = await going
                if script is not None:
                    coming.cancel()
        except* OSError:
            # Whoever breaks off, on either side, breaks off the other.
            peer.reset()
            script = None
        finally:
            writer.transport.abort()
        if script is not None:
            await script(peer)

    async def _travel(self, sender_is_gone: Callable[[], bool]) -> None:
        """Nobody sends a lost piece again for a sender that has broken off; what is on its way arrives."""
        late_s = self.road.late_s()
        if late_s:
            await asyncio.sleep(late_s)
        if late_s is None or (late_s and sender_is_gone()):
            raise ConnectionResetError("lost on the road")
        if self.road.one_way_s:
            await asyncio.sleep(self.road.one_way_s)

    async def _end(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._cut()


async def through(front: Front, request: bytes) -> bytes:
    """The sandbox's whole answer to a whole request, for a script that wants to say it in its own way."""
    reader, writer = await asyncio.open_connection(_SANDBOX, front.behind)
    try:
        writer.write(request.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
        return await reader.read()
    finally:
        writer.transport.abort()
