"""Every tenant's orders, and the audit log, over HTTP."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.broker.administration import Administration
from gateway.errors import BadRequest, NotFound
from gateway.web.admin_bodies import MAX_TEXT, ByHand, Nothing
from gateway.web.admin_operation import Asked, Desk, Operation, in_office
from gateway.web.described import order_page, page_parameters, ref
from gateway.web.views import DEFAULT_LIMIT, MAX_LIMIT, audit_view, filter_of, order_view, page_view, verified_view

MAX_ID_CHARS: Final = 36
_CURSOR: Final = re.compile(r"[0-9]{1,15}", re.ASCII)


async def _orders(desk: Desk, asked: Asked) -> bytes:
    wanted = filter_of(list(asked.query.items()), None)
    found = await desk.orders(wanted)
    return await desk.beside(lambda: msgspec.json.encode(page_view(found, wanted)))


async def _order(desk: Desk, asked: Asked) -> bytes:
    order_id = asked.params["orderId"]
    order = await desk.order(order_id) if len(order_id) == MAX_ID_CHARS else None
    if order is None:
        raise NotFound("There is no such order.")
    return await desk.beside(lambda: msgspec.json.encode(order_view(order)))


async def _resolve(desk: Desk, asked: Asked) -> bytes:
    body: ByHand = asked.body
    if (body.placed is None) != body.not_placed:
        raise BadRequest("Say either placed, with OfferGrid's id of the order, or notPlaced.")
    for text in (body.reason, body.placed or "-"):
        if not text.strip() or not text.isprintable():
            raise BadRequest(f"reason and placed are 1 to {MAX_TEXT} printable characters, on one line.")
    order = await desk.resolve(asked.params["orderId"], body.placed, body.reason.strip())
    return await desk.beside(lambda: msgspec.json.encode(order_view(order)))


async def _reconcile(desk: Desk, _: Asked) -> bytes:
    looked = await desk.reconcile()
    view = {
        "unknown": looked.unknown_before, "looks": looked.looks, "failedLooks": looked.failed, "found": looked.found,
        "late": looked.late, "duplicates": looked.duplicates, "stillUnknown": looked.unknown_after,
    }  # fmt: skip
    return msgspec.json.encode(view)


def _audit(admin: Administration, asked: Asked) -> Any:
    limit, cursor = asked.query.get("limit", str(DEFAULT_LIMIT)), asked.query.get("cursor")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 3 and 1 <= int(limit) <= MAX_LIMIT):
        raise BadRequest(f"limit is a whole number from 1 to {MAX_LIMIT}.")
    if cursor is not None and not _CURSOR.fullmatch(cursor):
        raise BadRequest("cursor is not one that a page named.")
    rows = admin.audited(before=None if cursor is None else int(cursor), limit=int(limit) + 1)
    page = rows[: int(limit)]
    return {
        "audit": [audit_view(row) for row in page],
        "nextCursor": str(page[-1].number) if len(rows) > len(page) else None,
    }


def _verify(admin: Administration, _: Asked) -> Any:
    return verified_view(admin.verify_audit())


_CURSOR_QUERY: Final[Mapping[str, Any]] = {
    "name": "cursor",
    "in": "query",
    "schema": {"type": "string", "pattern": "^[0-9]{1,15}$"},
}
_ORDER: Final = "/admin/orders/{orderId}"

ORDERS: Final = (
    Operation(
        method="GET", path="/admin/orders", name="listOrders", summary="Every tenant's orders, newest first",
        run=_orders, answer=order_page(),
        query=(*page_parameters(), {"name": "tenant", "in": "query", "schema": {"type": "string"}}),
    ),
    Operation(
        method="GET", path=_ORDER, name="showOrder", summary="One order, with its attempts and OfferGrid's answer",
        run=_order, answer=ref("Order"),
    ),
    Operation(
        method="POST", path=f"{_ORDER}/resolve", name="resolveOrder",
        summary="Settle an unknown order by hand. Only where reconciling cannot: a wrong word places it twice or never",
        run=_resolve, body=ByHand, answer=ref("Order"),
    ),
    Operation(
        method="POST", path="/admin/orders/reconcile", name="reconcile",
        summary="Look for unknown orders at OfferGrid, once and now. It takes as long as the longest listing",
        run=_reconcile, body=Nothing, answer=ref("Reconciled"),
    ),
    Operation(
        method="GET", path="/admin/audit", name="listAudit", summary="The audit log, newest first",
        run=in_office(_audit), answer=ref("AuditPage"), query=(page_parameters()[1], _CURSOR_QUERY),
    ),
    Operation(
        method="GET", path="/admin/audit/verify", name="verifyAudit",
        summary="Read all of the audit log, and say where its chain is broken, if it is",
        run=in_office(_verify), answer=ref("Verified"),
    ),
)  # fmt: skip
"""Every operation on orders and on the audit log."""
