"""Uvicorn under the applications: sockets bound beforehand, no signals of its own, and its refusals as problems."""

import contextlib
import functools
import socket
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.clock import SystemClock
from gateway.core.problems import MEDIA_TYPE, document
from gateway.errors import BadRequest, HeaderTooLarge, OperatorError, Problem, UriTooLong
from gateway.web.context import begin
from gateway.web.edge import MAX_TARGET_BYTES, AsgiApp

BACKLOG: Final = 2_048


class ProblemProtocol(HttpToolsProtocol):
    """Uvicorn's connection, whose answers of its own are problem documents, and whose header sections have an end.

    The parser keeps what it reads of a header section: without a limit here one connection could fill the memory.
    """

    def __init__(self, *args: Any, max_header_bytes: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._max_header_bytes = max_header_bytes
        self._header_bytes = 0
        self._in_header = self._began_in_this_read = False

    def data_received(self, data: bytes) -> None:
        self._began_in_this_read = False
        super().data_received(data)
        # A read in which a message began is not counted: it may be the end of the one before, and is short itself.
        if not self._in_header or self._began_in_this_read or self.transport.is_closing():
            return
        self._header_bytes += len(data)
        if self._header_bytes > self._max_header_bytes:
            self._refuse(HeaderTooLarge(f"The header section may have {self._max_header_bytes} bytes."))

    def on_message_begin(self) -> None:
        self._in_header = self._began_in_this_read = True
        self._header_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_header = False
        super().on_headers_complete()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if b"#" in url:  # uvicorn would cut it off, and the path before it would match a route
            raise ValueError("a fragment in the request target")

    def send_400_response(self, msg: str) -> None:
        del msg  # what the parser says of the bytes helps nobody who sends them
        self._refuse(BadRequest("This is not a request that can be read in one way."))

    def _refuse(self, problem: Problem) -> None:
        """Tells the problem and closes, where no answer that is still to come would be taken for it."""
        if self._answers_pending():
            return
        if len(self.url) > MAX_TARGET_BYTES:
            problem = UriTooLong(f"Path and query may have {MAX_TARGET_BYTES} bytes together.")
        context = begin([], SystemClock())
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


def make_server(app: AsgiApp, *, idle_timeout_s: float, max_header_bytes: int) -> Server:
    config = uvicorn.Config(
        app,
        http=functools.partial(ProblemProtocol, max_header_bytes=max_header_bytes),  # type: ignore[arg-type]  # a class but for its name
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=max(1, round(idle_timeout_s)),
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
