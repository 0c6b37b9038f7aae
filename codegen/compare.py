"""What changed between two documents, in plain words, what breaks first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from codegen.operations import METHODS

_LIMITS = ("enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems")


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change. Breaking: what worked with the old document may fail with the new one."""

    breaking: bool
    text: str


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Every change that this knows to look for, breaking ones first, each group sorted by its words."""
    found = [*_operations(old, new), *_schemas(old, new)]
    if old["openapi"] != new["openapi"]:
        found.append(_other(f"the document's version went from {old['openapi']} to {new['openapi']}"))
    if old["info"]["version"] != new["info"]["version"]:
        found.append(
            _other(f"the interface's version went from {old['info']['version']} to {new['info']['version']}")
        )
    if _urls(old) != _urls(new):
        gone = set(_urls(old)) - set(_urls(new))
        found.append(Change(breaking=bool(gone), text=f"the servers are now {', '.join(_urls(new)) or 'none'}"))
    return sorted(found, key=lambda change: (not change.breaking, change.text))


def _breaking(text: str) -> Change:
    return Change(breaking=True, text=text)


def _other(text: str) -> Change:
    return Change(breaking=False, text=text)


def _urls(data: dict[str, Any]) -> list[str]:
    return [server["url"] for server in data.get("servers", [])]


def _table(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Operation by `METHOD /path`."""
    paths = data.get("paths", {}).items()
    return {f"{m.upper()} {path}": item[m] for path, item in paths for m in METHODS if m in item}


def _operations(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    before, after = _table(old), _table(new)
    yield from (_breaking(f"{name} was removed") for name in before.keys() - after.keys())
    yield from (_other(f"{name} was added") for name in after.keys() - before.keys())
    for name in before.keys() & after.keys():
        was, now = before[name], after[name]
        statuses, fresh = was.get("responses", {}), now.get("responses", {})
        yield from (_breaking(f"{name} no longer documents status {s}") for s in statuses.keys() - fresh.keys())
        yield from (_other(f"{name} now documents status {s}") for s in fresh.keys() - statuses.keys())
        if was.get("operationId") != now.get("operationId"):
            yield _breaking(f"{name} is now called {now.get('operationId')}, was {was.get('operationId')}")
        if _body(was) != _body(now):
            yield _breaking(f"{name} takes {_body(now)}, was {_body(was)}")
        if was.get("security", old.get("security")) != now.get("security", new.get("security")):
            yield _breaking(f"{name} asks for another kind of key")


def _body(operation: dict[str, Any]) -> str:
    body = operation.get("requestBody")
    if body is None:
        return "no body"
    media = body.get("content", {}).items()
    shapes = ", ".join(f"{kind} {_kind(value.get('schema', {}))}" for kind, value in media)
    return f"{'a' if body.get('required') else 'an optional'} body ({shapes or body.get('$ref', 'of no kind')})"


def _schemas(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    before = old.get("components", {}).get("schemas", {})
    after = new.get("components", {}).get("schemas", {})
    yield from (_breaking(f"schema {name} was removed") for name in before.keys() - after.keys())
    yield from (_other(f"schema {name} was added") for name in after.keys() - before.keys())
    for name in before.keys() & after.keys():
        yield from _schema(name, before[name], after[name])


def _schema(name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    if _kind(old) != _kind(new):
        yield _breaking(f"{name} is now {_kind(new)}, was {_kind(old)}")
        return
    yield from (
        _breaking(f"{name}: {limit} is now {new.get(limit, 'gone')}, was {old.get(limit, 'not given')}")
        for limit in _LIMITS
        if old.get(limit) != new.get(limit)
    )
    members, fresh = old.get("properties", {}), new.get("properties", {})
    must, now_must = set(old.get("required", [])), set(new.get("required", []))
    yield from (_breaking(f"{name}/{member} is now required") for member in now_must - must)
    yield from (_other(f"{name}/{member} is no longer required") for member in must - now_must)
    yield from (_breaking(f"{name}/{member} was removed") for member in members.keys() - fresh.keys())
    yield from (_other(f"{name}/{member} was added") for member in fresh.keys() - members.keys())
    for member in members.keys() & fresh.keys():
        yield from _schema(f"{name}/{member}", members[member], fresh[member])
    if isinstance(old.get("items"), dict) and isinstance(new.get("items"), dict):
        yield from _schema(f"{name}[]", old["items"], new["items"])


def _kind(schema: dict[str, Any]) -> str:
    """A schema's type in a word or two: what it refers to, or its type, and whether null is one of its values."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", maxsplit=1)[-1]
    for word in ("allOf", "oneOf", "anyOf"):
        if word in schema:
            kinds = ", ".join(_kind(part) for part in schema[word])
            return kinds if len(schema[word]) == 1 else f"{word} ({kinds})"
    listed = schema.get("type", "anything")
    kind = " or ".join(listed) if isinstance(listed, list) else str(listed)
    closed = "closed " if schema.get("additionalProperties") is False else ""
    return f"{closed}{kind}{' or null' if schema.get('nullable') else ''}"
