"""Uvicorn under the applications: sockets bound beforehand, no signals of its own, and its refusals as problems."""

import contextlib
import socket
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.clock import SystemClock
from gateway.core.problems import MEDIA_TYPE, document
from gateway.errors import BadRequest, OperatorError, Problem, UriTooLong
from gateway.web.context import begin
from gateway.web.edge import MAX_TARGET_BYTES, AsgiApp

BACKLOG: Final = 2_048


class ProblemProtocol(HttpToolsProtocol):
    """Uvicorn's connection, whose one answer of its own is a problem document as well."""

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if b"#" in url:  # uvicorn would cut it off, and the path before it would match a route
            raise ValueError("a fragment in the request target")

    def send_400_response(self, msg: str) -> None:
        del msg  # what the parser says of the bytes helps nobody who sends them
        if self._answers_pending():
            return
        context = begin([], SystemClock())
        problem: Problem = BadRequest("This is not a request that can be read in one way.")
        if len(self.url) > MAX_TARGET_BYTES:
            problem = UriTooLong(f"Path and query may have {MAX_TARGET_BYTES} bytes together.")
        body = document(problem, request_id=context.request_id)
        head = (
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\ncache-control: no-store\r\n"
            f"x-request-id: {context.request_id}\r\ntraceparent: {context.traceparent}\r\n"
            "server-timing: gateway;dur=0, upstream;dur=0\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()

    def _answers_pending(self) -> bool:
        """Whether requests before the unreadable bytes still wait for their answers, which must not be preceded by
        this one: the tenant would take it for theirs. The last of them then ends the connection.
        """
        last: RequestResponseCycle | None = self.cycle
        if last is None or last.response_complete:
            return False
        if not last.more_body:
            last.keep_alive = False
            return True
        if self.pipeline:  # the unreadable bytes are in the last one's body, and others are before it
            self.transport.close()
            return True
        return False


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
