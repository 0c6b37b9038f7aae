"""`GET /reseller/orders`: the whole listing as a bare array, newest first, and the ways in which it can lie."""

import base64
import binascii
from typing import Any
from urllib.parse import parse_qs, urlencode

from gateway.sandbox.answers import Response, json_response, nest_error
from gateway.sandbox.faults import Fault
from gateway.sandbox.records import Order, Request, now
from gateway.sandbox.state import State

_NS = 1_000_000_000
_STALE_S = 60.0
_PAGE = 10


def show(order: Order) -> dict[str, Any]:
    """An order as OfferGrid shows it: what was placed, under its id, with its status."""
    placed: dict[str, Any] = {
        name: order.data[name]
        for name in ("serviceAddress", "customerInfo", "notes", "metadata")
        if name in order.data
    }
    return {
        "orderId": order.order_id,
        "status": order.status,
        "items": order.items,
        "createdAt": order.created_at,
        **placed,
    }


def answer_listing(state: State, request: Request, account: str, fault: Fault | None) -> Response:
    query = parse_qs(request.query)
    wanted = query.get("status", [""])[0]
    if "cursor" in query:
        return _further_page(_select(state, account, wanted), query["cursor"][0], wanted, request)
    kind = None if fault is None else fault.kind
    if fault is not None and kind == "list_other_account":
        account = "" if fault.account is None else fault.account
    orders = _select(state, account, wanted)
    if fault is not None and kind == "list_stale":
        oldest = now().monotonic_ns - int((_STALE_S if fault.after_s is None else fault.after_s) * _NS)
        orders = [order for order in orders if order.placed.monotonic_ns <= oldest]
    elif fault is not None and kind in {"list_without", "list_twice"}:
        copies = 2 if kind == "list_twice" else 0
        times = [copies if _is_meant(fault, index, order) else 1 for index, order in enumerate(orders)]
        orders = [order for order, shown in zip(orders, times, strict=True) for _ in range(shown)]
    elif fault is not None and kind == "list_page":
        size = _PAGE if fault.size is None else fault.size
        return _page(orders, 0, size, fault.marker or "none", wanted, request)
    rows = [show(order) for order in orders]
    if kind == "list_drop_metadata":
        for row in rows:
            row.pop("metadata", None)
    if kind == "list_object":
        return json_response(200, {"data": rows, "total": len(rows)})
    return json_response(200, rows)


def _select(state: State, account: str, status: str) -> list[Order]:
    orders = reversed(state.of_account(account))
    return [order for order in orders if status in {"", order.status}]


def _is_meant(fault: Fault, index: int, order: Order) -> bool:
    """Whether the fault means this order. One that names nothing means the newest."""
    if fault.order_id is not None:
        return order.order_id == fault.order_id
    if fault.metadata is not None:
        return fault.metadata.items() <= (order.metadata or {}).items()
    return index == (fault.index or 0)


def _page(orders: list[Order], start: int, size: int, marker: str, status: str, request: Request) -> Response:
    """One page, with the sign of further ones that `marker` names. The cursor holds all that they need."""
    rows = [show(order) for order in orders[start : start + size]]
    more = start + size < len(orders)
    cursor = base64.urlsafe_b64encode(f"{start + size}.{size}.{marker}".encode()).decode()
    query = urlencode({"cursor": cursor, **({"status": status} if status else {})})
    link = f"/reseller/orders?{query}"
    if marker == "none":
        return json_response(200, rows)
    if marker == "link":
        host = request.header("host") or "localhost"
        return json_response(200, rows, *((("Link", f'<http://{host}{link}>; rel="next"'),) if more else ()))
    signs: dict[str, Any] = {
        "next": link if more else None,
        "cursor": cursor if more else None,
        "hasMore": more,
        "total": len(orders),
    }
    return json_response(200, {"data": rows, marker: signs[marker]})


def _further_page(orders: list[Order], cursor: str, status: str, request: Request) -> Response:
    try:
        start, size, marker = base64.urlsafe_b64decode(cursor).decode().split(".")
        return _page(orders, int(start), int(size), marker, status, request)
    except (binascii.Error, ValueError, KeyError):
        return nest_error(400, "Invalid cursor")
