"""The reseller's API: routes and behaviour, as OfferGrid's guides describe them. No sockets and no faults here,
but for the listing, which is handed the fault that it is to lie with."""

import uuid
from datetime import UTC, datetime
from typing import Any

from gateway.sandbox.answers import Response, json_response, nest_error
from gateway.sandbox.catalogue import find_offers, show_offer
from gateway.sandbox.faults import Fault
from gateway.sandbox.listing import answer_listing, show
from gateway.sandbox.records import Order, Request, now
from gateway.sandbox.state import State
from gateway.sandbox.validation import check_order, read_json

_CANCELLABLE = frozenset({"pending", "submitted_to_provider"})


class Api:
    def __init__(self, state: State) -> None:
        self._state = state

    def answer(self, request: Request, fault: Fault | None = None) -> Response:
        """What OfferGrid does and says. Acts: an order that is answered with 201 is placed."""
        if not request.path.startswith("/reseller/"):
            return _cannot(request)
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        account = self._state.keys.account(request.key)
        match (request.method, *request.path.split("/")[2:]):
            case ("POST", "orders"):
                return self._place(request, account)
            case ("GET" | "HEAD", "orders"):
                return answer_listing(self._state, request, account, fault)
            case ("GET" | "HEAD", "orders", order_id):
                order = self._find(order_id, account)
                return nest_error(404, "Order not found") if order is None else json_response(200, show(order))
            case ("PATCH", "orders", order_id, "cancel"):
                return self._cancel(self._find(order_id, account))
            case ("GET" | "HEAD", "catalog"):
                return _catalogue(request)
            case ("GET" | "HEAD", "catalog", offer_id):
                offer = show_offer(offer_id)
                return nest_error(404, "Offer not found") if offer is None else json_response(200, offer)
        return _cannot(request)

    def _refusal(self, request: Request) -> Response | None:
        state = self._state.keys.state(request.key)
        if state in {"unknown", "revoked"}:
            return nest_error(401, "Unauthorized - invalid API key")
        if not request.allowed:
            return nest_error(429, "Too many requests", ("Retry-After", str(request.retry_after_s)))
        if state == "provider":
            return nest_error(403, "Forbidden - your team role does not allow this call")
        return None

    def _find(self, order_id: str, account: str) -> Order | None:
        order = self._state.orders.get(order_id)
        return order if order is not None and order.account == account else None

    def _place(self, request: Request, account: str) -> Response:
        try:
            data = _body(request)
        except ValueError as error:
            return nest_error(400, str(error))
        refusal = check_order(data)
        if refusal is not None:
            return refusal
        items = [
            {"itemId": f"item-{uuid.uuid4()}", "offerId": item["offerId"], "status": "pending"}
            for item in data["items"]
        ]
        order = Order(
            order_id=f"ord-{uuid.uuid4()}",
            account=account,
            request=request,
            data=data,
            items=items,
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            placed=now(),
        )
        request.order = order
        self._state.orders[order.order_id] = order
        return json_response(201, {"orderId": order.order_id, "items": items, "createdAt": order.created_at})

    def _cancel(self, order: Order | None) -> Response:
        if order is None:
            return nest_error(404, "Order not found")
        if order.status not in _CANCELLABLE:
            return nest_error(400, f"Order cannot be cancelled in status {order.status}")
        order.status = "cancelled"
        order.items = [{**item, "status": "cancelled"} for item in order.items]
        return json_response(200, show(order))


def _body(request: Request) -> Any:
    """The body as Express hands it on: one of another media type is an empty object."""
    media_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
    if media_type != "application/json" or not request.body:
        return {}
    return read_json(request.body)


def _catalogue(request: Request) -> Response:
    try:
        return json_response(200, find_offers(request.query))
    except ValueError:
        return nest_error(400, ["minPrice and maxPrice must be numbers"])


def _cannot(request: Request) -> Response:
    return nest_error(404, f"Cannot {request.method} {request.path}")
