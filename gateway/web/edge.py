"""The inbound edge: everything that is the same for every request and knows nothing of orders.

Refuses what no route should see (a target or a header section that is too long, a path that could be read in two
ways, an expectation), gives every answer its ids and its timing, counts it, and writes its access line. What goes
wrong further in leaves here as a problem document.
"""

import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from gateway.clock import Clock
from gateway.core.problems import MEDIA_TYPE, document
from gateway.errors import (
    ExpectationFailed,
    HeaderTooLarge,
    InternalError,
    NotFound,
    Problem,
    UriTooLong,
)
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics
from gateway.web.context import RequestContext, Scope, begin
from gateway.web.framing import require_one_reading

MAX_TARGET_BYTES: Final = 4_096
"""Path and query. The longest that a caller needs is a page of orders: some hundred bytes."""

# One spelling a path: no escapes, no empty or dot segments, no trailing slash. Anything else matches no route here,
# so that no two readers of a path can disagree about it.
_PLAIN_PATH: Final = re.compile(rb"/|(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
NO_ROUTE: Final = "_none"
OTHER_METHOD: Final = "_other"

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
AsgiApp = Callable[[Any, Receive, Send], Awaitable[None]]


class Edge:
    """ASGI middleware around a listener's whole application."""

    def __init__(
        self,
        app: AsgiApp,
        *,
        listener: str,
        max_header_bytes: int,
        clock: Clock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._app = app
        self._listener = listener
        self._max_header_bytes = max_header_bytes
        self._clock = clock
        self._metrics = metrics
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = scope["ordergate"] = begin(scope["headers"], self._clock)
        answered = 0

        async def send_with_ids(message: Any) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
                message["headers"] = [*message.get("headers", ()), *self._headers(context)]
            await send(message)

        with self._metrics.http_in_flight(self._listener):
            try:
                self._refuse(scope)
                await self._app(scope, receive, send_with_ids)
            except Problem as problem:
                if not answered:
                    await send_problem(problem, context, send_with_ids)
            except Exception:  # noqa: BLE001 - the last boundary: a defect is told as one, and logged with its way
                self._log.exception("defect", where=self._listener, request_id=context.request_id)
                if not answered:
                    await send_problem(InternalError("This is the gateway's fault."), context, send_with_ids)
        self._done(scope["method"], context, answered)

    def refusal(self, problem: Problem, began: float | None = None) -> bytes:
        """The answer, as bytes that end the connection, to what could not be read as a request; it is counted.

        `began`: when its first byte came, monotonic.
        """
        context = begin([], self._clock)
        if began is not None:
            context.began = began
        body = document(problem, request_id=context.request_id)
        extra = "".join(f"{name}: {value}\r\n" for name, value in problem.headers)
        head = (
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\ncache-control: no-store\r\n"
            f"x-content-type-options: nosniff\r\nx-request-id: {context.request_id}\r\n"
            f"traceparent: {context.traceparent}\r\nserver-timing: gateway;dur=0, upstream;dur=0\r\n"
            f"{extra}connection: close\r\n\r\n"
        )
        self._done(OTHER_METHOD, context, problem.status)
        return head.encode("ascii") + body

    def short_of_descriptors(self, connections: int) -> None:
        """Says that there can be so many connections only."""
        self._log.warning(
            "limit", listener=self._listener, count=connections, reason="the limit of open files allows no more"
        )

    def _refuse(self, scope: Scope) -> None:
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        if len(path) + len(scope["query_string"]) > MAX_TARGET_BYTES:
            raise UriTooLong(f"Path and query may have {MAX_TARGET_BYTES} bytes together.")
        if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > self._max_header_bytes:
            raise HeaderTooLarge(f"The header section may have {self._max_header_bytes} bytes.")
        require_one_reading(scope)
        for name, value in scope["headers"]:
            if name == b"expect" and value.lower() != b"100-continue":
                raise ExpectationFailed("Only 100-continue can be expected.")
        if not _PLAIN_PATH.fullmatch(path):
            raise NotFound("No route has this path.")

    def _headers(self, context: RequestContext) -> list[tuple[bytes, bytes]]:
        whole_ms = (self._clock.monotonic() - context.began) * 1000
        upstream_ms = context.times.upstream_s * 1000
        timing = f"gateway;dur={max(0.0, whole_ms - upstream_ms):.2f}, upstream;dur={upstream_ms:.2f}"
        return [
            (b"x-request-id", context.request_id.encode("ascii")),
            (b"traceparent", context.traceparent.encode("ascii")),
            (b"server-timing", timing.encode("ascii")),
        ]

    def _done(self, method: str, context: RequestContext, status: int) -> None:
        if not status:  # whoever asked was gone before the request was whole
            return
        method = method if method in _METHODS else OTHER_METHOD
        route = context.route or NO_ROUTE
        seconds = self._clock.monotonic() - context.began
        self._metrics.http(self._listener, method, counted_as(route), status, seconds)
        self._log.info(
            "request",
            listener=self._listener,
            method=method,
            route=route,
            status=status,
            seconds=round(seconds, 6),
            request_id=context.request_id,
            trace_id=context.trace_id,
            tenant=context.tenant,
            order_id=context.order_id,
            outcome=context.outcome,
        )


def counted_as(route: str) -> str:
    """Operators' operations are counted by what they are about (`/admin/teams`), not one by one: each route has a
    histogram of its own, and there are more operations than everything else has series for.
    """
    return "/".join(route.split("/")[:3]) if route.startswith("/admin/") else route


async def send_problem(problem: Problem, context: RequestContext, send: Send) -> None:
    """One problem document as a whole answer."""
    headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in problem.headers]
    await send_whole(problem.status, document(problem, request_id=context.request_id), MEDIA_TYPE, headers, send)


async def send_whole(
    status: int, body: bytes, content_type: str, headers: list[tuple[bytes, bytes]], send: Send
) -> None:
    """One whole answer: nothing of it is cached on the way, and nothing of it is sniffed."""
    await send({
        "type": "http.response.start",
        "status": status,
        "headers": [
            (b"content-type", content_type.encode("ascii")),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            *headers,
        ],
    })  # fmt: skip
    await send({"type": "http.response.body", "body": body})
