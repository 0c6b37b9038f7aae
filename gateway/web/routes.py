"""What both listeners share: health, descriptions, and how Litestar's own refusals become problem documents."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler

from gateway.core.problems import MEDIA_TYPE, document
from gateway.errors import BadRequest, InternalError, MethodNotAllowed, NotFound, Problem
from gateway.telemetry.logs import Log
from gateway.web.context import context_of
from gateway.web.edge import AsgiApp, Receive, Send
from gateway.web.pages import docs_page, problem_page

Reasons = Callable[[], list[str]]
HEADERS: Final[Mapping[str, str]] = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def json_response(value: Any, status: int = 200) -> Response[bytes]:
    """A JSON answer, encoded here so that embedded bodies pass as they are."""
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json", headers=HEADERS)


class Described:
    """ASGI: lets through what the listener's own description names, its paths and each one's methods.

    Here and not in the router: that answers OPTIONS by itself, and its 405 does not say what is allowed.
    """

    def __init__(self, app: AsgiApp, described: dict[str, Any]) -> None:
        self._app = app
        routes = {path: ", ".join(sorted(found)).upper() for path, found in described["paths"].items()}
        self._plain = {path: (path, allow) for path, allow in routes.items() if "{" not in path}
        self._templates = [
            (re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), (path, allow))
            for path, allow in routes.items()
            if "{" in path
        ]

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        found = self._find(scope["path"])
        if found is None:
            raise NotFound("No route has this path.")
        context_of(scope).route, allow = found
        if scope["method"] not in allow.split(", "):
            raise MethodNotAllowed("See the `allow` header.", headers=(("allow", allow),))
        await self._app(scope, receive, send)

    def _find(self, path: str) -> tuple[str, str] | None:
        """The path's template and its methods."""
        if path in self._plain:
            return self._plain[path]
        return next((route for template, route in self._templates if template.fullmatch(path)), None)


def health_routes(reasons: Reasons) -> list[HTTPRouteHandler]:
    """Liveness and readiness. Neither asks OfferGrid: its outage is not mended by restarting us."""

    @get("/healthz", sync_to_thread=False)
    def healthz() -> Response[bytes]:
        return json_response({"status": "ok"})

    @get("/readyz", sync_to_thread=False)
    def readyz() -> Response[bytes]:
        found = reasons()
        return (
            json_response({"status": "not ready", "reasons": found}, 503)
            if found
            else json_response({"status": "ready"})
        )

    return [healthz, readyz]


def description_routes(described: dict[str, Any]) -> list[HTTPRouteHandler]:
    """The interface for machines and for people, and each problem type explained. All from memory."""
    document_bytes = msgspec.json.encode(described)
    page = docs_page(described)

    @get("/openapi.json", sync_to_thread=False)
    def openapi() -> Response[bytes]:
        return Response(document_bytes, media_type="application/json", headers=HEADERS)

    @get("/docs", sync_to_thread=False)
    def docs() -> Response[str]:
        return html_response(page)

    @get("/problems/{type:str}", sync_to_thread=False)
    def problem(request: Request[Any, Any, Any]) -> Response[str]:
        found = problem_page(request.path_params["type"])
        if found is None:
            raise NotFound("There is no such problem type.")
        return html_response(found)

    return [openapi, docs, problem]


def html_response(page: str) -> Response[str]:
    policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
    return Response(page, media_type=MediaType.HTML, headers={**HEADERS, "content-security-policy": policy})


def exception_handlers(log: Log) -> dict[Any, Any]:
    """Everything that a handler or the router raises, as a problem document."""

    def respond(request: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
        body = document(problem, request_id=context_of(request.scope).request_id)
        return Response(
            body, status_code=problem.status, media_type=MEDIA_TYPE, headers={**HEADERS, **dict(problem.headers)}
        )

    def ours(request: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
        return respond(request, problem)

    def litestars(request: Request[Any, Any, Any], fault: HTTPException) -> Response[bytes]:
        return respond(request, _translated(fault))

    def defect(request: Request[Any, Any, Any], fault: Exception) -> Response[bytes]:
        log.error("defect", where="web", request_id=context_of(request.scope).request_id, exc_info=fault)
        return respond(request, InternalError("This is the gateway's fault."))

    return {Problem: ours, HTTPException: litestars, Exception: defect}


def _translated(fault: HTTPException) -> Problem:
    match fault.status_code:
        case 404:
            return NotFound("No route has this path.")
        case status if 400 <= status < 500:
            return BadRequest("The request cannot be read.")
        case _:
            return InternalError("This is the gateway's fault.")
