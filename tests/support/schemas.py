"""Whether a value is what a schema of an OpenAPI document says. Knows the words that the listeners' documents use, and
fails on any other, so that none is taken as said and not looked at.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

KNOWN: Final = frozenset({
    "$ref", "type", "enum", "anyOf", "properties", "required", "additionalProperties", "items", "pattern", "format",
    "minimum", "maximum", "minLength", "maxLength", "description", "title", "default",
})  # fmt: skip
TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "array": (list,),
    "object": (dict,), "null": (type(None),),
}  # fmt: skip
FORMATS: Final[Mapping[str, str]] = {
    "date-time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z",
    "date": r"\d{4}-\d\d-\d\d",
    "uuid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
}


def faults(value: Any, schema: Mapping[str, Any], document: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """What is wrong with `value`, each with its place."""
    assert schema.keys() <= KNOWN, f"a word that is not known here: {schema.keys() - KNOWN}"
    if "$ref" in schema:
        yield from faults(value, resolved(schema["$ref"], document), document, at)
    if "anyOf" in schema and all(list(faults(value, branch, document, at)) for branch in schema["anyOf"]):
        yield f"{at}: {value!r} is none of {schema['anyOf']}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if "type" in schema:
        names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        if not any(_is(value, name) for name in names):
            yield f"{at}: {value!r} is no {names}"
    match value:
        case str():
            yield from _text_faults(value, schema, at)
        case int() | float():
            if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
                yield f"{at}: {value!r} is out of bounds"
        case list() if "items" in schema:
            for index, item in enumerate(value):
                yield from faults(item, schema["items"], document, f"{at}/{index}")
        case dict():
            yield from _object_faults(value, schema, document, at)


def resolved(reference: str, document: Mapping[str, Any]) -> Any:
    found: Any = document
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def _is(value: Any, name: str) -> bool:
    return isinstance(value, TYPES[name]) and (name == "boolean") == isinstance(value, bool)


def _text_faults(value: str, schema: Mapping[str, Any], at: str) -> Iterator[str]:
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{at}: {value!r} does not match {schema['pattern']}"
    if "format" in schema and not re.fullmatch(FORMATS[schema["format"]], value):
        yield f"{at}: {value!r} is no {schema['format']}"
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        yield f"{at}: {value!r} is too short or too long"


def _object_faults(
    value: Mapping[str, Any], schema: Mapping[str, Any], document: Mapping[str, Any], at: str
) -> Iterator[str]:
    known = schema.get("properties", {})
    yield from (f"{at}/{name}: is missing" for name in schema.get("required", ()) if name not in value)
    for name, item in value.items():
        if name in known:
            yield from faults(item, known[name], document, f"{at}/{name}")
        elif schema.get("additionalProperties") is False:
            yield f"{at}/{name}: nobody said that it is there"
        elif isinstance(schema.get("additionalProperties"), dict):
            yield from faults(item, schema["additionalProperties"], document, f"{at}/{name}")
