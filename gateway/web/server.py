"""Uvicorn under the applications: sockets bound beforehand, a door of its own, no signals of its own."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final

import uvicorn

from gateway.clock import Clock
from gateway.errors import OperatorError
from gateway.web.connection import Connection, Shared
from gateway.web.door import Door, room_for
from gateway.web.edge import Edge
from gateway.web.watch import Limits, Watch

BACKLOG: Final = 2_048


class Server(uvicorn.Server):
    """A server that leaves the process's signals to whoever runs several of them, and that accepts by itself."""

    def __init__(self, edge: Edge, limits: Limits, clock: Clock) -> None:
        config = uvicorn.Config(
            edge,
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        super().__init__(config)
        self._shared = Shared(edge=edge, limits=limits, watch=Watch(limits, clock), clock=clock, open=set())

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to accept on `sockets`."""
        await self.lifespan.startup()
        shared = self._shared
        most = room_for(shared.limits.max_connections, shared.limits.beside)
        if most < shared.limits.max_connections:
            shared.edge.short_of_descriptors(most)
        doors = [
            Door(
                listening,
                make=self._connection,
                open_now=shared.open,
                most=most,
                watch=shared.watch,
                edge=shared.edge,
            )
            for listening in sockets or ()
        ]
        self.servers = doors  # type: ignore[assignment]  # of asyncio's servers only what a Door has is used
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._shared.stopping = True
        await super().shutdown(sockets)

    def _connection(self) -> asyncio.Protocol:
        return Connection(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state, shared=self._shared
        )


def bind(host: str, port: int, what: str) -> socket.socket:
    """A listening socket, or one line that names the port which is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: asyncio turns Nagle's delay off only on sockets that say that they are TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.set_inheritable(False)
    except OSError as fault:
        listener.close()
        raise CannotListen(f"{what}: {host}:{port} cannot be listened on: {fault.strerror}") from fault
    return listener


class CannotListen(OperatorError):
    """The port is taken, or the address is not this machine's."""


def address_of(listener: socket.socket) -> tuple[str, int]:
    """The host and port that a socket is bound to."""
    name: Any = listener.getsockname()
    return name[0], name[1]
