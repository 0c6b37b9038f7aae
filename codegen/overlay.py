"""Overlays: what is known beyond the published document, each fact with its source (OpenAPI Overlay 1.0).

oas-patch lends the schema of an overlay and the merging of objects. Its own loop over the actions is not used: an
action that matches nothing passes there in silence, and one that matches an item of a list fails.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.ext.parser import parse
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from oas_patch.overlay import deep_update
from oas_patch.validator import load_schema

from codegen.document import Document
from codegen.errors import CodegenError
from codegen.extract import extract
from codegen.fetch import read_source
from codegen.validate import validate


def apply_overlays(document: Document, folder: Path) -> Document:
    """The document with every overlay of `folder` applied in the order of the names, and valid after each."""
    if not folder.is_dir():
        raise CodegenError(str(folder), 1, "no such folder of overlays")
    for path in sorted(folder.glob("*.yaml")):
        document = _apply(document, extract(str(path), read_source(str(path))))
    return document


def _apply(document: Document, overlay: Document) -> Document:
    fault = best_match(Draft202012Validator(load_schema("overlay_schema_1.0.0.yml")).iter_errors(overlay.data))
    if fault is not None:
        line = overlay.line_of(tuple(fault.absolute_path))
        raise CodegenError(overlay.source, line, f"not an overlay: {fault.message}")
    data = copy.deepcopy(document.data)
    for position, action in enumerate(overlay.data["actions"], start=1):
        _act(data, action, overlay, position)
    # From here on a fault is the overlay's: the document was valid before it.
    changed = Document(source=overlay.source, data=data, lines={}, first_line=1)
    validate(changed)
    return Document(source=document.source, data=data, lines=document.lines, first_line=document.first_line)


def _act(data: dict[str, Any], action: dict[str, Any], overlay: Document, position: int) -> None:
    target = action["target"]

    def fault(message: str) -> CodegenError:
        line = overlay.line_of(("actions", position - 1, "target"))
        return CodegenError(overlay.source, line, f"action {position}: target {target} {message}")

    try:
        expression = parse(target)
    except JSONPathError as error:
        raise fault(f"is not a JSONPath: {error}") from error
    matches = expression.find(data)
    if not matches:
        raise fault("matches nothing in the document")
    if action.get("remove"):
        expression.filter(lambda _: True, data)
        return
    for match in matches:
        update = copy.deepcopy(action.get("update"))
        if isinstance(match.value, dict) and isinstance(update, dict):
            deep_update(match.value, update)
        elif isinstance(match.value, list):
            match.value.append(update)
        else:
            raise fault("is no object or array that the update could go into")
