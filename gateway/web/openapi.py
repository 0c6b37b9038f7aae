"""The listeners' own OpenAPI documents, as data: made of the routes, the errors' tree and OfferGrid's schemas.

Written out here and not read off the handlers: the hot route is a bare ASGI handler, and what is promised should
change only on purpose. A test holds this table against the routes that exist and the answers that they give.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway import __version__, errors
from gateway.core.lifecycle import OUTCOMES
from gateway.core.problems import MEDIA_TYPE
from gateway.errors import Problem
from generated.operations import PLACE
from generated.schemas import document as upstream_document

Json = dict[str, Any]

# What any request may be told, by the edge and the router.
_ANY: Final[tuple[type[Problem], ...]] = (
    errors.BadRequest, errors.NotFound, errors.UriTooLong, errors.ExpectationFailed, errors.HeaderTooLarge,
    errors.InternalError,
)  # fmt: skip
_ADMIN_HEALTH: Final[tuple[type[Problem], ...]] = (*_ANY, errors.Forbidden)
_ADMIN: Final[tuple[type[Problem], ...]] = (*_ADMIN_HEALTH, errors.Unauthorized)
_TENANTS: Final[tuple[type[Problem], ...]] = (*_ANY, errors.Unauthorized, errors.TenantSuspended)
_LOOKS: Final[tuple[type[Problem], ...]] = (*_TENANTS, errors.LedgerUnavailable)
_ORDERS: Final[tuple[type[Problem], ...]] = (
    *_TENANTS, errors.IdempotencyKeyRequired, errors.NotAcceptable, errors.RequestTimeout, errors.OrderInFlight,
    errors.BodyTooLarge, errors.UnsupportedMediaType, errors.InvalidOrder, errors.ReservedMetadata,
    errors.IdempotencyKeyReused, errors.OrderRejected, errors.UpstreamThrottled, errors.UpstreamCredentials,
    errors.OutcomeUnknown, errors.OutcomeUnknownTimeout, errors.UpstreamUnavailable, errors.Overloaded,
    errors.LedgerUnavailable, errors.Draining,
)  # fmt: skip

_TENANT_TOKEN: Final = ("bearer", "apiKey")

_TEXT: Final[Mapping[str, Any]] = {"type": "string"}
_MAYBE_TEXT: Final[Mapping[str, Any]] = {"type": ["string", "null"]}
_MAYBE_STATUS: Final[Mapping[str, Any]] = {"type": ["integer", "null"]}
_MOMENT: Final[Mapping[str, Any]] = {"type": "string", "format": "date-time"}
_MAYBE_MOMENT: Final[Mapping[str, Any]] = {"type": ["string", "null"], "format": "date-time"}


def tenant_document() -> Json:
    """The tenants' interface."""
    order_id = {"name": "orderId", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
    paths = {
        "/orders": {"get": _list_orders(), "post": _place_order("placeOrder", "Place an order")},
        "/reseller/orders": {
            "post": _place_order("placeOrderAsOfferGrid", "The same at OfferGrid's own path")
        },
        "/orders/{orderId}": {
            "get": _operation(
                "showOrder", "One order of yours, as the ledger holds it", _ok("The order", _ref("Order")),
                problems=_LOOKS, parameters=[order_id], security=_TENANT_TOKEN,
            )
        },
        **_common_paths(),
    }  # fmt: skip
    schemas = {**_upstream_schemas(), **_own_schemas()}
    return _document("Ordergate for tenants", paths, schemas, token="A token: `ogt_<tokenId>_<secret>`.")


def admin_document(*, metrics_token: bool) -> Json:
    """The admin listener's interface. `metrics_token`: the metrics ask for the token, too."""
    content = {"text/plain": {"schema": _TEXT}, "application/openmetrics-text": {"schema": _TEXT}}
    text = {"200": {"description": "Every series", "content": content}}
    metrics = _operation(
        "metrics", "Metrics for Prometheus", text, problems=_ADMIN, security=("bearer",) if metrics_token else ()
    )
    paths = {
        "/metrics": {"get": metrics},
        **_common_paths(health=_ADMIN_HEALTH, pages=_ADMIN, security=("bearer",)),
    }
    return _document("Ordergate for operators", paths, {"Problem": _problem_schema()}, token="The admin token.")


def problem_types() -> dict[str, list[type[Problem]]]:
    """Every problem type with the classes that carry it: one type may have two statuses."""
    found: dict[str, list[type[Problem]]] = {}
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, Problem) and value is not Problem:
            found.setdefault(value.type, []).append(value)
    return found


def _place_order(operation_id: str, summary: str) -> Json:
    key = {
        "name": "Idempotency-Key", "in": "header", "required": False,
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-~][!-~]*$"},
        "description": "The same key and the same body is the same order: sending it again cannot place it twice.",
    }  # fmt: skip
    placed = {"description": "Placed: OfferGrid's own body, byte for byte", "content": _json({"type": "object"})}
    rejected = {
        "description": "`order-rejected`: any other status of OfferGrid's own",
        "content": _problem_content(),
    }
    found = _operation(
        operation_id, summary, {"201": placed, "4XX": rejected},
        problems=_ORDERS, parameters=[key], security=_TENANT_TOKEN,
    )  # fmt: skip
    assert PLACE.request_model is not None
    found["requestBody"] = {"required": True, "content": _json(_ref(PLACE.request_model.__name__))}
    return found


def _list_orders() -> Json:
    parameters = [
        {"name": "outcome", "in": "query", "schema": {"enum": list(OUTCOMES)}},
        {
            "name": "limit",
            "in": "query",
            "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
        },
        {"name": "cursor", "in": "query", "schema": {"type": "string", "pattern": "^[0-9a-f]{1,15}$"}},
    ]
    page = {
        "type": "object", "required": ["orders", "nextCursor"],
        "properties": {"orders": {"type": "array", "items": _ref("Order")}, "nextCursor": _MAYBE_TEXT},
    }  # fmt: skip
    return _operation(
        "listOrders", "Your orders, newest first", _ok("A page", page),
        problems=_LOOKS, parameters=parameters, security=_TENANT_TOKEN,
    )  # fmt: skip


def _common_paths(
    *,
    health: tuple[type[Problem], ...] = _ANY,
    pages: tuple[type[Problem], ...] = _ANY,
    security: tuple[str, ...] = (),
) -> Json:
    """What both listeners have. `security`: what the pages ask for; health never asks."""
    state = {
        "type": "object",
        "required": ["status"],
        "properties": {"status": _TEXT, "reasons": {"type": "array"}},
    }
    not_ready = {"503": {"description": "Not ready, and why", "content": _json(state)}}
    kind = {"name": "type", "in": "path", "required": True, "schema": {"enum": sorted(problem_types())}}
    page = {"200": {"description": "A page for people", "content": {"text/html": {"schema": _TEXT}}}}
    ready = _ok("Ready", state) | not_ready
    it = _ok("It", {"type": "object"})
    operations = {
        "/healthz": _operation("healthz", "Whether the process lives", _ok("It lives", state), problems=health),
        "/readyz": _operation("readyz", "Whether it should be sent orders", ready, problems=health),
        "/openapi.json": _operation("openapi", "This document", it, problems=pages, security=security),
        "/docs": _operation("docs", "This document, for people", page, problems=pages, security=security),
        "/problems/{type}": _operation(
            "problem", "What a problem type means", page, problems=pages, parameters=[kind], security=security
        ),
    }
    return {path: {"get": operation} for path, operation in operations.items()}


def _operation(
    operation_id: str,
    summary: str,
    answers: Json,
    *,
    problems: tuple[type[Problem], ...] = _ANY,
    parameters: list[Json] | None = None,
    security: tuple[str, ...] = (),
) -> Json:
    found: Json = {"operationId": operation_id, "summary": summary, "responses": {**answers}}
    by_status: dict[int, list[str]] = {}
    for problem in problems:
        by_status.setdefault(problem.status, []).append(f"`{problem.type}`")
    for status, names in sorted(by_status.items()):
        found["responses"].setdefault(str(status), {"description": ", ".join(names), "content": _problem_content()})
    if parameters:
        found["parameters"] = parameters
    if security:
        found["security"] = [{scheme: []} for scheme in security]
    return found


def _document(title: str, paths: Json, schemas: Json, *, token: str) -> Json:
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": token},
                "apiKey": {"type": "apiKey", "in": "header", "name": PLACE.key_header, "description": token},
            },
        },
    }


def _own_schemas() -> Json:
    attempt = {
        "startedAt": _MOMENT, "endedAt": _MAYBE_MOMENT,
        "evidence": {"enum": ["not_sent", "sent", "answered", None]}, "status": _MAYBE_STATUS,
    }  # fmt: skip
    order = {
        "orderId": _TEXT, "tenant": _TEXT, "outcome": {"enum": list(OUTCOMES)}, "httpStatus": _MAYBE_STATUS,
        "upstreamOrderId": _MAYBE_TEXT, "upstreamStatus": _MAYBE_TEXT, "idempotencyKey": _MAYBE_TEXT,
        "createdAt": _MOMENT, "settledAt": _MAYBE_MOMENT,
        "attempts": {"type": "array", "items": _ref("Attempt")},
        "response": {"description": "OfferGrid's body, or null"},
    }  # fmt: skip
    return {
        "Attempt": {"type": "object", "properties": attempt, "required": list(attempt)},
        "Order": {"type": "object", "properties": order, "required": list(order)},
        "Problem": _problem_schema(),
    }


def _problem_schema() -> Json:
    fault = {"type": "object", "properties": {"pointer": _TEXT, "detail": _TEXT}, "required": ["pointer", "detail"]}
    members = {
        "type": {"enum": [f"/problems/{name}" for name in sorted(problem_types())]},
        "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT, "requestId": _TEXT,
        "outcome": {"enum": list(OUTCOMES)}, "retryable": {"type": "boolean"}, "orderId": _TEXT,
        "errors": {"type": "array", "items": fault},
        "upstream": {"type": "object", "properties": {"status": {"type": "integer"}, "body": {}}},
    }  # fmt: skip
    return {"type": "object", "properties": members, "required": ["type", "title", "status", "detail", "requestId"]}


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


def _ok(description: str, schema: Json) -> Json:
    return {"200": {"description": description, "content": _json(schema)}}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _problem_content() -> Json:
    return {MEDIA_TYPE: {"schema": _ref("Problem")}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
