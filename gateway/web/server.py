"""Uvicorn under the applications: sockets bound beforehand, no signals of its own, and its refusals as problems."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.clock import SystemClock
from gateway.core.problems import MEDIA_TYPE, document
from gateway.errors import BadRequest, OperatorError
from gateway.web.context import begin
from gateway.web.edge import AsgiApp

BACKLOG: Final = 2_048


class ProblemProtocol(HttpToolsProtocol):
    """Uvicorn's connection, whose one answer of its own is a problem document as well."""

    def send_400_response(self, msg: str) -> None:
        del msg  # what the parser says of the bytes helps nobody who sends them
        context = begin([], SystemClock())
        body = document(
            BadRequest("This is not a request that can be read in one way."), request_id=context.request_id
        )
        head = (
            "HTTP/1.1 400 Bad Request\r\n"
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\ncache-control: no-store\r\n"
            f"x-request-id: {context.request_id}\r\ntraceparent: {context.traceparent}\r\n"
            "server-timing: gateway;dur=0, upstream;dur=0\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()


class Server(uvicorn.Server):
    """A server that leaves the process's signals to whoever runs several of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(app: AsgiApp, *, idle_timeout_s: float, drain_s: float) -> Server:
    config = uvicorn.Config(
        app,
        http=ProblemProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=max(1, round(idle_timeout_s)),
        timeout_graceful_shutdown=max(1, round(drain_s)),
    )
    return Server(config)


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
