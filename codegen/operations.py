"""The document's operations as rows for the template."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from codegen.document import Document
from codegen.errors import CodegenError
from codegen.validate import resolve

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
# How an overlay names an operation; without it the operationId does.
NAME_MEMBER = "x-ordergate-operation"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One operation, as `generated/operations.py` states it."""

    constant: str
    name: str
    operation_id: str
    method: str
    path: str
    summary: str
    path_parameters: tuple[str, ...]
    query_parameters: tuple[str, ...]
    servers: tuple[tuple[str, str], ...]
    key_header: str
    documented_statuses: tuple[tuple[str, str], ...]
    request_model: str | None
    request_required: bool


def rows(document: Document, classes: dict[str, str]) -> list[Row]:
    """Every operation in the document's order. `classes` maps a component schema's name to its class's name."""
    table: list[Row] = []
    for path, stated in document.data.get("paths", {}).items():
        item = _followed(document.data, stated)
        for method in (m for m in item if m in METHODS):
            row = _row(document.data, path, item, method, classes)
            line = document.line_of(("paths", path, method))
            if not re.fullmatch(r"[A-Z][A-Z0-9_]*", row.constant):
                raise CodegenError(document.source, line, f"{row.name!r} does not make a constant's name")
            if any(row.constant == other.constant for other in table):
                raise CodegenError(document.source, line, f"two operations named {row.constant}")
            table.append(row)
    return table


def _row(data: dict[str, Any], path: str, item: dict[str, Any], method: str, classes: dict[str, str]) -> Row:
    operation = item[method]
    operation_id = operation.get("operationId", "")
    name = str(operation.get(NAME_MEMBER) or _snake(operation_id or f"{method} {path}"))
    parameters = [_followed(data, p) for p in [*item.get("parameters", []), *operation.get("parameters", [])]]
    servers = operation.get("servers") or item.get("servers") or data.get("servers") or [{"url": "/"}]
    body = _followed(data, operation.get("requestBody", {}))
    return Row(
        constant=name.upper().replace("-", "_"),
        name=name,
        operation_id=operation_id,
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        path_parameters=_names(parameters, "path"),
        query_parameters=_names(parameters, "query"),
        servers=tuple((server["url"], server.get("description", "")) for server in servers),
        key_header=_key_header(data, operation),
        documented_statuses=tuple(
            (status, _followed(data, response).get("description", ""))
            for status, response in operation.get("responses", {}).items()
            if not status.startswith("x-")
        ),
        request_model=_request_model(body, classes),
        request_required=bool(body.get("required", False)),
    )


def _followed(data: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """`value`, or what it refers to. A circle of references ends, like a missing one, in an empty object."""
    for _ in range(10):
        if "$ref" not in value:
            return value
        value = resolve(data, value["$ref"])
    return {}


def _names(parameters: list[dict[str, Any]], place: str) -> tuple[str, ...]:
    # A parameter of the operation replaces the path's of the same name: each name once.
    return tuple(dict.fromkeys(p["name"] for p in parameters if p.get("in") == place))


def _key_header(data: dict[str, Any], operation: dict[str, Any]) -> str:
    """The header of the first key in a header that the operation's security names; empty where it names none."""
    schemes = data.get("components", {}).get("securitySchemes", {})
    for requirement in operation.get("security", data.get("security", [])):
        for name in requirement:
            scheme = _followed(data, schemes.get(name, {}))
            if scheme.get("type") == "apiKey" and scheme.get("in") == "header":
                return str(scheme["name"])
    return ""


def _request_model(body: dict[str, Any], classes: dict[str, str]) -> str | None:
    schema = body.get("content", {}).get("application/json", {}).get("schema", {})
    return classes.get(schema.get("$ref", "").removeprefix("#/components/schemas/"))


def _snake(text: str) -> str:
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", text)
    return re.sub(r"[^A-Za-z0-9]+", "_", words).strip("_").lower()
