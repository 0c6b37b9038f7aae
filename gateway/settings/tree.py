"""A large YAML file as a tree of plain values with their places. What `document` refuses is refused here as well.

For files with many thousands of entries: one pass over LibYAML's events where that is there, ten times as fast as
PyYAML's own parser, and nodes that hold no more than is needed.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import yaml

from gateway.settings.document import Fault, Limits, Place, plain_events, read_text

LOADER: Final[type[Any]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Leaf(msgspec.Struct, frozen=True, gc=False):
    """A scalar. `plain`: it stands there without quotes. Lines and columns count from 1."""

    text: str
    plain: bool
    line: int
    column: int


class Branch(msgspec.Struct, frozen=True):
    """A list."""

    items: "tuple[Node, ...]"
    line: int
    column: int


class Table(msgspec.Struct, frozen=True):
    """A mapping, its names in their order. Nothing says that they are texts, or different."""

    members: "tuple[tuple[Node, Node], ...]"
    line: int
    column: int


Node = Leaf | Branch | Table


def read_tree(content: bytes, source: str, limits: Limits) -> tuple[Node | None, tuple[Fault, ...]]:
    """The file's root, None where it is empty or cannot be read; and what is wrong with the file as YAML."""

    def tree(text: str, faults: list[Fault]) -> Node | None:
        return _root(plain_events(text, source, faults, limits, LOADER))

    return read_text(content, source, limits, tree)


def place(node: Node, source: str) -> Place:
    return Place(source=source, line=node.line, column=node.column)


def _root(events: Iterator[yaml.Event]) -> Node | None:
    root: Node | None = None
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent) and root is not None:
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem="but found another document", problem_mark=mark)
        if isinstance(event, yaml.NodeEvent):
            root = _node(event, events)
    return root


def _node(event: yaml.NodeEvent, events: Iterator[yaml.Event]) -> Node:
    """The node that begins with `event`, read to its end. No deeper than the limits allow, which stand in the way."""
    mark: Any = event.start_mark
    line, column = mark.line + 1, mark.column + 1
    match event:
        case yaml.SequenceStartEvent():
            return Branch(tuple(_items(events)), line, column)
        case yaml.MappingStartEvent():
            return Table(tuple((name, _node(_next(events), events)) for name in _items(events)), line, column)
        case yaml.ScalarEvent():
            return Leaf(event.value, not event.style, line, column)
    return Leaf("", True, line, column)  # an alias, which is a fault already


def _items(events: Iterator[yaml.Event]) -> Iterator[Node]:
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            return
        assert isinstance(event, yaml.NodeEvent)
        yield _node(event, events)


def _next(events: Iterator[yaml.Event]) -> yaml.NodeEvent:
    event = next(events)
    assert isinstance(event, yaml.NodeEvent)
    return event
