"""The tenants' listener: its routes, and nothing else."""

import asyncio
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, asgi, get

from gateway.errors import NotFound
from gateway.flow.intake import Intake
from gateway.flow.known import knowledge
from gateway.ledger.interface import Ledger
from gateway.telemetry.logs import Log
from gateway.web.auth import Authenticator
from gateway.web.edge import AsgiApp, Send, send_whole
from gateway.web.openapi import tenant_document
from gateway.web.orders import OrderEndpoint
from gateway.web.routes import (
    Described,
    Reasons,
    description_routes,
    exception_handlers,
    health_routes,
    json_response,
)
from gateway.web.views import filter_of, order_view, page_view
from generated.operations import PLACE

MAX_ID_CHARS = 36


def tenant_app(
    *,
    orders: OrderEndpoint,
    ledger: Ledger,
    intake: Intake,
    authenticator: Authenticator,
    reasons: Reasons,
    log: Log,
) -> AsgiApp:
    @asgi("/orders", copy_scope=False)
    async def collection(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            await orders(scope, receive, send)
        else:
            await list_orders(scope, send)

    @asgi(PLACE.path, copy_scope=False)
    async def as_offergrid(scope: Any, receive: Any, send: Any) -> None:
        await orders(scope, receive, send)

    async def list_orders(scope: Any, send: Send) -> None:
        tenant = authenticator.active_tenant(scope)
        request: Request[Any, Any, Any] = Request(scope)
        with knowledge(intake, log):
            wanted = filter_of(list(request.query_params.multi_items()), tenant.tenant_id)
            found = await ledger.page(wanted)
        # Beside the event loop: a hundred large bodies take their time, which no order should wait for.
        page = await asyncio.to_thread(lambda: msgspec.json.encode(page_view(found, wanted)))
        await send_whole(200, page, "application/json", [], send)

    @get("/orders/{orderId:str}")
    async def show_order(request: Request[Any, Any, Any]) -> Response[bytes]:
        order_id: str = request.path_params["orderId"]
        tenant = authenticator.active_tenant(request.scope)
        known = len(order_id) == MAX_ID_CHARS
        with knowledge(intake, log):
            order = await ledger.find(order_id, tenant_id=tenant.tenant_id) if known else None
        if order is None:
            raise NotFound("There is no such order of yours.")
        return json_response(await asyncio.to_thread(order_view, order))

    described = tenant_document()
    app = Litestar(
        [collection, as_offergrid, show_order, *health_routes(reasons), *description_routes(described)],
        openapi_config=None,
        logging_config=None,
        exception_handlers=exception_handlers(log),
    )
    return Described(app, described)
