"""YAML and JSON text to plain values, with the line on which each stood."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import yaml

from codegen.errors import CodegenError

# Enough for any document written by hand or by a framework; an alias that multiplies itself stops here.
MAX_VALUES = 1_000_000
MAX_DEPTH = 100


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document's values, JSON types only, and the line of the source on which each member stands."""

    source: str
    data: dict[str, Any]
    lines: dict[tuple[str | int, ...], int]
    first_line: int

    def line_of(self, path: tuple[str | int, ...]) -> int:
        """The line of the member at `path`, or of the nearest one above it that is there."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return self.first_line


class _CoreLoader(yaml.SafeLoader):
    """YAML with the types that JSON has: a date stays a string, and so do `NO` and `on`."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own protocol


_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_CoreLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


class _Reader:
    """Walks PyYAML's nodes once. It counts every value it makes, so that aliases cannot multiply without end."""

    def __init__(self, source: str, first_line: int) -> None:
        self.source = source
        self.first_line = first_line
        self.lines: dict[tuple[str | int, ...], int] = {}
        self.count = 0

    def fault(self, node: yaml.Node, message: str) -> CodegenError:
        return CodegenError(self.source, self.first_line + int(node.start_mark.line), message)

    def value(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        self.count += 1
        if self.count > MAX_VALUES or len(path) > MAX_DEPTH:
            raise self.fault(node, f"more than {MAX_VALUES} values, or nested deeper than {MAX_DEPTH}")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[(*path, index)] = self.first_line + int(item.start_mark.line)
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self.scalar(node)

    def mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.fault(key, "a member's name must be a string")
            name = str(key.value)  # as it is written: a status code 404 is the name "404"
            if name in members:
                raise self.fault(key, f"member {name!r} stands here for the second time")
            self.lines[(*path, name)] = self.first_line + int(key.start_mark.line)
            members[name] = self.value(value, (*path, name))
        return members

    def scalar(self, node: yaml.Node) -> Any:
        text = str(node.value)
        match node.tag.removeprefix("tag:yaml.org,2002:"):
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text)
            case "float":
                return float(text)
        raise self.fault(node, f"tag {node.tag} is not known")


def load_yaml(source: str, text: str, first_line: int = 1) -> Document:
    """The document in YAML `text`, whose first line is line `first_line` of the source."""
    reader = _Reader(source, first_line)
    try:
        node = yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = first_line + (int(mark.line) if mark else 0)
        raise CodegenError(source, line, f"not YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = first_line + text.count("\n", 0, int(error.position))
        raise CodegenError(source, line, f"not YAML: {error.reason}") from error
    except RecursionError as error:
        raise CodegenError(source, first_line, "not YAML: nested too deeply") from error
    if not isinstance(node, yaml.MappingNode):
        raise CodegenError(source, first_line, "a document must be an object")
    return Document(source=source, data=reader.value(node, ()), lines=reader.lines, first_line=first_line)


def load_json(source: str, text: str, first_line: int = 1) -> Document:
    """The document in JSON `text`. Values come from a JSON parser; YAML's only lends the line numbers."""
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise CodegenError(source, first_line + error.lineno - 1, f"not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise CodegenError(source, first_line, f"not JSON: {error}") from error
    if not isinstance(data, dict):
        raise CodegenError(source, first_line, "a document must be an object")
    # JSON may be indented with tabs, YAML may not; inside a JSON string no bare tab can stand.
    located = load_yaml(source, text.replace("\t", " "), first_line)
    return Document(source=source, data=data, lines=located.lines, first_line=first_line)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
