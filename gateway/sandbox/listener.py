"""The listening socket: opened, closed for a while, opened again on the same port.

It accepts by itself, because `asyncio.Server` loses a connection that it has accepted and not yet handed over when
it is closed: the peer would wait on a socket that nobody holds.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

_BACKLOG = 1024
_RETRY_S = 0.1  # after accept failed, as it does without free file descriptors
_log = logging.getLogger("ordergate.sandbox")


class Listener:
    """Hands each accepted connection to a protocol of its own. To be used from one event loop only."""

    def __init__(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._protocol = protocol
        self._sock: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None  # until it listens or accepts again
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self, host: str, port: int) -> int:
        """Listens and returns the port. Raises OSError when it is taken or there is no such address."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # IPv4 first: `localhost` is 127.0.0.1 to most clients.
        family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        self._sock = _bound(family, address)
        try:
            self._listen()
        except OSError:
            self._sock.close()
            self._sock = None
            raise
        return int(self._sock.getsockname()[1])

    def refuse(self, after_s: float) -> None:
        """Listens again after that time. The port stays bound meanwhile, so that nobody else can get it."""
        if self._sock is None:
            return
        family, address = self._sock.family, self._sock.getsockname()
        self._hush()
        self._sock.close()
        self._sock = _bound(family, address)
        self._timer = asyncio.get_running_loop().call_later(after_s, self._listen)

    async def close(self) -> None:
        """Closes the port. Connections accepted so far have their protocol when this returns."""
        if self._sock is not None:
            self._hush()
            self._sock.close()
            self._sock = None
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _hush(self) -> None:
        assert self._sock is not None
        asyncio.get_running_loop().remove_reader(self._sock)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _listen(self) -> None:
        assert self._sock is not None
        self._timer = None
        self._sock.listen(_BACKLOG)
        asyncio.get_running_loop().add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        assert self._sock is not None
        loop = asyncio.get_running_loop()
        for _ in range(_BACKLOG):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.error("sandbox: accept: %r", error)
                self._hush()
                self._timer = loop.call_later(_RETRY_S, self._listen)
                return
            sock.setblocking(False)
            task = loop.create_task(loop.connect_accepted_socket(self._protocol, sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


def _bound(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
