"""Is it an OpenAPI document that this package can read?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from jsonschema.exceptions import ValidationError
from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator
from openapi_spec_validator.validation.validators import SpecValidator

from codegen.document import Document
from codegen.errors import CodegenError

Path = tuple[str | int, ...]


def validate(document: Document) -> None:
    """Raises CodegenError at the first fault: the version, a reference, or what the specification demands."""
    version = document.data.get("openapi")
    if not isinstance(version, str) or not re.fullmatch(r"3\.[01]\.\d+(?:-.+)?", version):
        said = f"openapi {version}" if version is not None else f"swagger {document.data.get('swagger')}"
        line = document.line_of(("openapi",) if "openapi" in document.data else ("swagger",))
        raise CodegenError(document.source, line, f"unsupported version ({said}); 3.0.x and 3.1.x are supported")
    _check_references(document)
    validator = OpenAPIV30SpecValidator if version.startswith("3.0") else OpenAPIV31SpecValidator
    fault = _first_fault(document, validator(document.data))
    if fault is not None:
        path = tuple(fault.absolute_path)
        where = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
        message = f"invalid OpenAPI at {where or 'its root'}: {fault.message}"
        raise CodegenError(document.source, document.line_of(path), message)


def _first_fault(document: Document, validator: SpecValidator) -> ValidationError | None:
    """The fault that stands first in the source, at its deepest: not "this schema fits nothing" but why."""
    found: list[ValidationError] = []
    try:
        found.extend(islice(validator.iter_errors(), 100))
    except Exception as error:
        if not found:
            message = f"invalid OpenAPI, and so far off that the validator gave up: {error!r}"
            raise CodegenError(document.source, document.first_line, message) from error

    def place(fault: ValidationError) -> tuple[bool, int, bool, str]:
        # The later of the validator's two rounds gives paths that begin in the middle: those come last.
        path = tuple(fault.absolute_path)
        # Of a misspelt member, that the right one is missing says more than that the wrong one is there.
        beside_it = fault.validator != "required"
        return path not in document.lines, document.line_of(path), beside_it, str(fault.message)

    fault = min(found, key=place, default=None)
    while fault is not None and fault.context:
        deepest = max(len(inner.absolute_path) for inner in fault.context)
        fault = min((inner for inner in fault.context if len(inner.absolute_path) == deepest), key=place)
    return fault


def references(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every `$ref` below `value`, with its place. Examples are data: what looks like a reference there is none."""
    if isinstance(value, dict):
        target = value.get("$ref")
        if isinstance(target, str):
            yield (*path, "$ref"), target
        for name, member in value.items():
            if name not in {"example", "examples", "default", "enum"} or (path and path[-1] == "properties"):
                yield from references(member, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from references(item, (*path, index))


def resolve(data: dict[str, Any], target: str) -> Any:
    """What a reference inside the document points to. Raises KeyError when that is nothing."""
    found: Any = data
    for part in target.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict):
            found = found[name]
        else:
            raise KeyError(target)
    return found


def _check_references(document: Document) -> None:
    for path, target in references(document.data):
        if not (target == "#" or target.startswith("#/")):
            # Nothing is fetched and no other file is read on a document's say-so.
            message = f"reference {target!r} leaves the document; only `#/...` is supported"
            raise CodegenError(document.source, document.line_of(path), message)
        try:
            resolve(document.data, target)
        except KeyError as error:
            message = f"reference {target!r} points to nothing"
            raise CodegenError(document.source, document.line_of(path), message) from error
