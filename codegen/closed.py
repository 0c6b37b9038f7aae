"""Which schemas are closed, so that a member they do not name is a fault (`additionalProperties: false`)."""

from __future__ import annotations

from typing import Any

from codegen.validate import references, resolve

_SCHEMAS = "#/components/schemas/"


def is_closed(data: dict[str, Any], path: list[str]) -> bool:
    """Whether the schema at `path` is closed and takes part in requests alone.

    A schema that answers use as well stays open: an answer with a new member is no fault, and a request that breaks
    the schema is then left to the upstream to refuse.
    """
    if path[:2] != ["components", "schemas"] or len(path) < 3:
        return False
    asked, answered = set[str](), set[str]()
    for item in data.get("paths", {}).values():
        for operation in item.values():
            if isinstance(operation, dict):
                _reach(data, operation.get("requestBody"), asked)
                _reach(data, operation.get("responses"), answered)
    name = _SCHEMAS + path[2]
    if name not in asked or name in answered:
        return False
    try:
        schema = resolve(data, "#/" + "/".join(part.replace("~", "~0").replace("/", "~1") for part in path))
    except KeyError:  # a class that the generator made up for itself
        return False
    return isinstance(schema, dict) and schema.get("additionalProperties") is False


def _reach(data: dict[str, Any], value: Any, reached: set[str]) -> None:
    """Adds every reference that `value` leads to, however indirectly."""
    for _, target in references(value):
        if target not in reached:
            reached.add(target)
            _reach(data, resolve(data, target), reached)
