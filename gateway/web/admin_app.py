"""The admin listener: administration, metrics, health, and its own description.

The token is asked of everything but health, before anything else is looked at.
"""

import asyncio
import ipaddress
from typing import Any, Final

from litestar import Litestar, Request, Response, get

from gateway.broker.vault import Secret
from gateway.errors import Forbidden, Unauthorized
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics
from gateway.web.admin_openapi import OPERATIONS, admin_document
from gateway.web.admin_operation import BodyLimits, Desk, route_of
from gateway.web.auth import CHALLENGE, bearer_token
from gateway.web.edge import AsgiApp, Receive, Send
from gateway.web.routes import HEADERS, Described, Reasons, description_routes, exception_handlers, health_routes

_OPEN: Final = frozenset({"/healthz", "/readyz"})


def admin_app(
    *,
    host: str,
    token: Secret,
    metrics_token: bool,
    metrics: Metrics,
    reasons: Reasons,
    desk: Desk,
    limits: BodyLimits,
    log: Log,
) -> AsgiApp:
    """`host` is what the listener is bound to. Without `metrics_token` the metrics are open, for Prometheus."""
    open_paths = _OPEN if metrics_token else _OPEN | {"/metrics"}

    def admit(scope: Any) -> None:
        _refuse_foreign(dict(scope["headers"]), host)
        if scope["path"] in open_paths:
            return
        shown = bearer_token(scope)
        if shown is None or Secret(shown) != token:
            raise Unauthorized("The admin token is needed: `authorization: Bearer …`.", headers=CHALLENGE)

    described = admin_document(metrics_token=metrics_token)
    routed = Described(admin_router(described, metrics, reasons, desk, limits, log), described)

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        # Before the router: without the token nobody learns even which paths there are.
        admit(scope)
        await routed(scope, receive, send)

    return app


def admin_router(
    described: dict[str, Any], metrics: Metrics, reasons: Reasons, desk: Desk, limits: BodyLimits, log: Log
) -> Litestar:
    """Every route there is, without what guards them."""

    @get("/metrics")
    async def show_metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        # Rendering thousands of series takes milliseconds that no order should wait for.
        body, content_type = await asyncio.to_thread(metrics.render, request.headers.get("accept", ""))
        return Response(body, headers={**HEADERS, "content-type": content_type})

    operations = [route_of(row, desk, limits) for row in OPERATIONS]
    return Litestar(
        [show_metrics, *operations, *health_routes(reasons), *description_routes(described)],
        openapi_config=None,
        logging_config=None,
        exception_handlers=exception_handlers(log),
    )


def _refuse_foreign(headers: dict[bytes, bytes], bound: str) -> None:
    """A page of another site, or a name that was made to point here, must not reach the admin listener."""
    shown = headers.get(b"host", b"").decode("latin-1")
    asked = _host(shown)
    if not _is_own(asked, bound):
        raise Forbidden("This listener is not known by that host name.")
    origin = headers.get(b"origin")
    if origin is not None and origin.decode("latin-1").partition("://")[2] != shown:
        raise Forbidden("Requests from other sites are refused.")


def _host(header: str) -> str:
    """The host of a Host header, without its port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()


def _is_own(host: str, bound: str) -> bool:
    """Addresses cannot be rebound by a foreign name server; of names only localhost and the bound one are ours."""
    if host in ("localhost", bound.lower()):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
