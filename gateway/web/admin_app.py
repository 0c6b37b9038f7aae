"""The admin listener: administration, metrics, health, and its own description, behind its guard."""

import asyncio
from typing import Any

from litestar import Litestar, Request, Response, get

from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics
from gateway.web.admin_guard import Guard
from gateway.web.admin_openapi import OPERATIONS, admin_document
from gateway.web.admin_operation import BodyLimits, Desk, route_of
from gateway.web.edge import AsgiApp, Receive, Send
from gateway.web.routes import HEADERS, Described, Reasons, description_routes, exception_handlers, health_routes


def admin_app(
    *,
    guard: Guard,
    metrics_token: bool,
    metrics: Metrics,
    reasons: Reasons,
    desk: Desk,
    limits: BodyLimits,
    log: Log,
) -> AsgiApp:
    described = admin_document(metrics_token=metrics_token)
    routed = Described(admin_router(described, metrics, reasons, desk, limits, log), described)

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        # Before the router: without the token nobody learns even which paths there are.
        guard.admit(scope)
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

    operations = [route_of(row, desk, limits, log) for row in OPERATIONS]
    return Litestar(
        [show_metrics, *operations, *health_routes(reasons), *description_routes(described)],
        openapi_config=None,
        logging_config=None,
        exception_handlers=exception_handlers(log),
    )
