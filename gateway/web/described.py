"""What the descriptions of both listeners are made of: operations, answers, and the schemas that both show."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway import __version__, errors
from gateway.core.lifecycle import OUTCOMES
from gateway.core.problems import MEDIA_TYPE
from gateway.errors import Problem
from generated.operations import PLACE

Json = dict[str, Any]


# What any request may be told, by the edge and the router.
ANY: Final[tuple[type[Problem], ...]] = (
    errors.BadRequest, errors.NotFound, errors.UriTooLong, errors.ExpectationFailed, errors.HeaderTooLarge,
    errors.InternalError,
)  # fmt: skip

TEXT: Final[Mapping[str, Any]] = {"type": "string"}
MAYBE_TEXT: Final[Mapping[str, Any]] = {"type": ["string", "null"]}
_MAYBE_STATUS: Final[Mapping[str, Any]] = {"type": ["integer", "null"]}
MOMENT: Final[Mapping[str, Any]] = {"type": "string", "format": "date-time"}
MAYBE_MOMENT: Final[Mapping[str, Any]] = {"type": ["string", "null"], "format": "date-time"}


def problem_types() -> dict[str, list[type[Problem]]]:
    """Every problem type with the classes that carry it: one type may have two statuses."""
    found: dict[str, list[type[Problem]]] = {}
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, Problem) and value is not Problem:
            found.setdefault(value.type, []).append(value)
    return found


def common_paths(
    *,
    health: tuple[type[Problem], ...] = ANY,
    pages: tuple[type[Problem], ...] = ANY,
    security: tuple[str, ...] = (),
) -> Json:
    """What both listeners have. `security`: what the pages ask for; health never asks."""
    state = {
        "type": "object",
        "required": ["status"],
        "properties": {"status": TEXT, "reasons": {"type": "array"}},
    }
    not_ready = {"503": {"description": "Not ready, and why", "content": json_content(state)}}
    kind = {"name": "type", "in": "path", "required": True, "schema": {"enum": sorted(problem_types())}}
    page = {"200": {"description": "A page for people", "content": {"text/html": {"schema": TEXT}}}}
    ready = ok("Ready", state) | not_ready
    it = ok("It", {"type": "object"})
    operations = {
        "/healthz": operation("healthz", "Whether the process lives", ok("It lives", state), problems=health),
        "/readyz": operation("readyz", "Whether it should be sent orders", ready, problems=health),
        "/openapi.json": operation("openapi", "This document", it, problems=pages, security=security),
        "/docs": operation("docs", "This document, for people", page, problems=pages, security=security),
        "/problems/{type}": operation(
            "problem", "What a problem type means", page, problems=pages, parameters=[kind], security=security
        ),
    }
    return {path: {"get": found} for path, found in operations.items()}


def operation(
    operation_id: str,
    summary: str,
    answers: Json,
    *,
    problems: tuple[type[Problem], ...] = ANY,
    parameters: Sequence[Mapping[str, Any]] = (),
    security: tuple[str, ...] = (),
) -> Json:
    found: Json = {"operationId": operation_id, "summary": summary, "responses": {**answers}}
    by_status: dict[int, list[str]] = {}
    for problem in problems:
        by_status.setdefault(problem.status, []).append(f"`{problem.type}`")
    for status, names in sorted(by_status.items()):
        found["responses"].setdefault(str(status), {"description": ", ".join(names), "content": problem_content()})
    if parameters:
        found["parameters"] = [*parameters]
    if security:
        found["security"] = [{scheme: []} for scheme in security]
    return found


def document(title: str, paths: Json, schemas: Json, *, token: str) -> Json:
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


def order_schemas() -> Json:
    attempt = {
        "startedAt": MOMENT, "endedAt": MAYBE_MOMENT,
        "evidence": {"enum": ["not_sent", "sent", "answered", None]}, "status": _MAYBE_STATUS,
    }  # fmt: skip
    order = {
        "orderId": TEXT, "tenant": TEXT, "outcome": {"enum": list(OUTCOMES)}, "httpStatus": _MAYBE_STATUS,
        "upstreamOrderId": MAYBE_TEXT, "upstreamStatus": MAYBE_TEXT, "idempotencyKey": MAYBE_TEXT,
        "createdAt": MOMENT, "settledAt": MAYBE_MOMENT,
        "attempts": {"type": "array", "items": ref("Attempt")},
        "response": {"description": "OfferGrid's body, or null"},
    }  # fmt: skip
    return {
        "Attempt": {"type": "object", "properties": attempt, "required": list(attempt)},
        "Order": {"type": "object", "properties": order, "required": list(order)},
        "Problem": problem_schema(),
    }


def page_parameters() -> list[Json]:
    """What a page of orders is asked for with."""
    return [
        {"name": "outcome", "in": "query", "schema": {"enum": list(OUTCOMES)}},
        {
            "name": "limit",
            "in": "query",
            "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
        },
        {"name": "cursor", "in": "query", "schema": {"type": "string", "pattern": "^[0-9a-f]{1,15}$"}},
    ]


def order_page() -> Json:
    return {
        "type": "object", "required": ["orders", "nextCursor"],
        "properties": {"orders": {"type": "array", "items": ref("Order")}, "nextCursor": MAYBE_TEXT},
    }  # fmt: skip


def problem_schema() -> Json:
    fault = {"type": "object", "properties": {"pointer": TEXT, "detail": TEXT}, "required": ["pointer", "detail"]}
    members = {
        "type": {"enum": [f"/problems/{name}" for name in sorted(problem_types())]},
        "title": TEXT, "status": {"type": "integer"}, "detail": TEXT, "requestId": TEXT,
        "outcome": {"enum": list(OUTCOMES)}, "retryable": {"type": "boolean"}, "orderId": TEXT,
        "errors": {"type": "array", "items": fault},
        "upstream": {"type": "object", "properties": {"status": {"type": "integer"}, "body": {}}},
    }  # fmt: skip
    return {"type": "object", "properties": members, "required": ["type", "title", "status", "detail", "requestId"]}


def ok(description: str, schema: Json) -> Json:
    return {"200": {"description": description, "content": json_content(schema)}}


def json_content(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def problem_content() -> Json:
    return {MEDIA_TYPE: {"schema": ref("Problem")}}


def listed(name: str) -> Json:
    return {"type": "array", "items": ref(name)}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
