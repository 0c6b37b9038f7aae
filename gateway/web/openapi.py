"""The tenants' OpenAPI document, as data: made of the routes, the errors' tree and OfferGrid's schemas.

Written out here and not read off the handlers: the hot route is a bare ASGI handler, and what is promised should
change only on purpose. A test holds this table against the routes that exist and the answers that they give.
"""

from typing import Any, Final

from gateway import errors
from gateway.errors import Problem
from gateway.web.described import (
    ANY,
    Json,
    common_paths,
    document,
    json_content,
    ok,
    operation,
    order_page,
    order_schemas,
    page_parameters,
    problem_content,
    ref,
)
from generated.operations import PLACE
from generated.schemas import document as upstream_document

_TENANTS: Final[tuple[type[Problem], ...]] = (*ANY, errors.Unauthorized, errors.TenantSuspended)
_LOOKS: Final[tuple[type[Problem], ...]] = (*_TENANTS, errors.LedgerUnavailable)
_ORDERS: Final[tuple[type[Problem], ...]] = (
    *_TENANTS, errors.IdempotencyKeyRequired, errors.NotAcceptable, errors.RequestTimeout, errors.OrderInFlight,
    errors.BodyTooLarge, errors.UnsupportedMediaType, errors.InvalidOrder, errors.ReservedMetadata,
    errors.IdempotencyKeyReused, errors.OrderRejected, errors.UpstreamThrottled, errors.UpstreamCredentials,
    errors.OutcomeUnknown, errors.OutcomeUnknownTimeout, errors.UpstreamUnavailable, errors.Overloaded,
    errors.LedgerUnavailable, errors.Draining,
)  # fmt: skip

_TENANT_TOKEN: Final = ("bearer", "apiKey")


def tenant_document() -> Json:
    """The tenants' interface."""
    order_id = {"name": "orderId", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
    paths = {
        "/orders": {"get": _list_orders(), "post": _place_order("placeOrder", "Place an order")},
        "/reseller/orders": {
            "post": _place_order("placeOrderAsOfferGrid", "The same at OfferGrid's own path")
        },
        "/orders/{orderId}": {
            "get": operation(
                "showOrder", "One order of yours, as the ledger holds it", ok("The order", ref("Order")),
                problems=_LOOKS, parameters=[order_id], security=_TENANT_TOKEN,
            )
        },
        **common_paths(),
    }  # fmt: skip
    schemas = {**_upstream_schemas(), **order_schemas()}
    return document("Ordergate for tenants", paths, schemas, token="A token: `ogt_<tokenId>_<secret>`.")


def _place_order(operation_id: str, summary: str) -> Json:
    key = {
        "name": "Idempotency-Key", "in": "header", "required": False,
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-~][!-~]*$"},
        "description": "The same key and the same body is the same order: sending it again cannot place it twice.",
    }  # fmt: skip
    placed = {
        "description": "Placed: OfferGrid's own body, byte for byte",
        "content": json_content({"type": "object"}),
    }
    rejected = {
        "description": "`order-rejected`: any other status of OfferGrid's own",
        "content": problem_content(),
    }
    found = operation(
        operation_id, summary, {"201": placed, "4XX": rejected},
        problems=_ORDERS, parameters=[key], security=_TENANT_TOKEN,
    )  # fmt: skip
    assert PLACE.request_model is not None
    found["requestBody"] = {"required": True, "content": json_content(ref(PLACE.request_model.__name__))}
    return found


def _list_orders() -> Json:
    return operation(
        "listOrders", "Your orders, newest first", ok("A page", order_page()),
        problems=_LOOKS, parameters=page_parameters(), security=_TENANT_TOKEN,
    )  # fmt: skip


def _upstream_schemas() -> Json:
    """The schema of an order's body and those that it refers to, as OfferGrid publishes them."""
    every: Json = upstream_document()["components"]["schemas"]
    assert PLACE.request_model is not None
    wanted, found = [PLACE.request_model.__name__], {}
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = every[name]
            wanted += _references(every[name])
    return found


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for item in schema for name in _references(item)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"].rsplit("/", 1)[-1]] if isinstance(schema.get("$ref"), str) else []
    return own + [name for item in schema.values() for name in _references(item)]
