"""A settings file as plain values with positions: `section.field` → value, place. Guards come first.

What YAML can do beyond two levels of plain values is refused: anchors, aliases, tags, several documents, duplicate
keys. Words that YAML 1.1 turns into something else (`yes`, `010`, `1:30`, dates) stay text, as YAML 1.2 reads them.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import msgspec
import yaml

MAX_FILE_BYTES: Final = 1 << 20
# Every setting written out is some 120 events; a file with many more is no settings file, and costs time to read.
MAX_EVENTS: Final = 2_000
MAX_DEPTH: Final = 4
_WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9_]{0,29})")
_FRACTION: Final = re.compile(r"[-+]?[0-9]{1,30}\.[0-9]{0,30}([eE][-+]?[0-9]{1,3})?")

T = TypeVar("T")


class Place(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Where something was read. Lines and columns count from 1; `source` is a file's path or `$VARIABLE`."""

    source: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong. `name` is `section.field`, a section, or empty where the file as a whole is meant."""

    place: Place
    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.name}: {self.what}" if self.name else f"{self.place}: {self.what}"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One `field: value` of the file. `key` and `place` are where the name and the value stand."""

    section: str
    field: str
    value: Any
    key: Place
    place: Place


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a file may hold at most: bytes and YAML events in all, and levels. `what` it holds, in words."""

    bytes: int = MAX_FILE_BYTES
    events: int = MAX_EVENTS
    depth: int = MAX_DEPTH
    what: str = "settings"


class _TooMuch(Exception):
    """The file is past its limits, and not read any further. The fault is noted."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What a file holds: `sections` with the place of each name, entries in the file's order, and what is wrong."""

    sections: tuple[tuple[str, Place], ...] = ()
    entries: tuple[Entry, ...] = ()
    faults: tuple[Fault, ...] = ()


def read_document(content: bytes, source: str) -> Document:
    """Read a settings file. Never raises for what is in it: the faults come back in the document."""
    root, faults = compose(content, source, Limits())
    document = Document() if root is None else _two_levels(root, source)
    return msgspec.structs.replace(document, faults=(*faults, *document.faults))


def compose(content: bytes, source: str, limits: Limits) -> tuple[yaml.Node | None, tuple[Fault, ...]]:
    """The file's root node, None where it is empty or cannot be read; and what is wrong with the file as YAML."""

    def nodes(text: str, beyond: list[Fault]) -> yaml.Node | None:
        for _ in plain_events(text, source, beyond, limits, yaml.SafeLoader):
            pass
        return yaml.compose(text, Loader=yaml.SafeLoader)

    return read_text(content, source, limits, nodes)


def read_text(
    content: bytes, source: str, limits: Limits, read: Callable[[str, list[Fault]], T | None]
) -> tuple[T | None, tuple[Fault, ...]]:
    """What `read` makes of the file's text, None where it is not read; and what is wrong with the file as YAML.

    `read` notes what `plain_events` refuses in the list that it gets; YAML's own errors become faults here.
    """
    if len(content) > limits.bytes:
        return _refused(Place(source=source), f"is larger than {limits.bytes} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        return _refused(_place_after(source, content[: fault.start].decode("utf-8", "replace")), "is not UTF-8")
    beyond: list[Fault] = []
    try:
        return read(text, beyond), tuple(beyond)
    except _TooMuch:
        return None, tuple(beyond)
    except yaml.MarkedYAMLError as fault:
        if beyond:  # what is wrong with an anchor's name would repeat it, and it may be half of a secret
            return None, tuple(beyond)
        mark = fault.problem_mark or fault.context_mark
        place = _at(mark, source) if mark else Place(source=source)
        return _refused(place, f"cannot be read as YAML: {fault.problem or fault.context}")
    except yaml.reader.ReaderError as fault:
        return _refused(_place_of_sign(source, text, fault), "holds a character that YAML does not allow")


def _refused(place: Place, what: str) -> tuple[None, tuple[Fault, ...]]:
    return None, (Fault(place=place, name="", what=what),)


def _place_after(source: str, before: str) -> Place:
    return Place(source=source, line=before.count("\n") + 1, column=len(before) - (before.rfind("\n") + 1) + 1)


def _place_of_sign(source: str, text: str, fault: yaml.reader.ReaderError) -> Place:
    """LibYAML counts bytes, and says so by knowing of no encoding."""
    before = text.encode()[: fault.position].decode() if fault.encoding == "?" else text[: fault.position]
    return _place_after(source, before)


def place_of(node: yaml.Node | yaml.Event, source: str) -> Place:
    """Where it begins."""
    return _at(node.start_mark, source)


def _at(mark: Any, source: str) -> Place:
    return Place(source=source, line=mark.line + 1, column=mark.column + 1)


def plain_events(
    text: str, source: str, faults: list[Fault], limits: Limits, loader: type[Any]
) -> Iterator[yaml.Event]:
    """The text's events, as long as it is neither too deep nor too long; notes anchors, aliases and tags, all of them.

    Events, not nodes: nothing is built, so a file made to be large when built does no harm.
    """
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=loader)):
        if isinstance(event, yaml.AliasEvent):
            what = "aliases (*) are not used here: write the value itself"
            faults.append(Fault(place=place_of(event, source), name="", what=what))
        elif getattr(event, "anchor", None) is not None:
            faults.append(Fault(place=place_of(event, source), name="", what="anchors (&) are not used here"))
        if getattr(event, "tag", None) is not None:
            faults.append(Fault(place=place_of(event, source), name="", what="tags (!) are not used here"))
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        what = ""
        if depth > limits.depth:
            what = f"is nested too deeply to be {limits.what}"
        elif count > limits.events:
            what = f"holds far more than there are {limits.what}; nothing after this is read"
        if what:
            faults.append(Fault(place=place_of(event, source), name="", what=what))
            raise _TooMuch
        yield event


def _two_levels(root: yaml.Node, source: str) -> Document:
    if not isinstance(root, yaml.MappingNode):
        what = "must hold sections (`tenant_api:`, …) with settings in them"
        return Document(faults=(Fault(place=place_of(root, source), name="", what=what),))
    faults: list[Fault] = []
    sections: list[tuple[str, Place]] = []
    entries: list[Entry] = []
    for section, key, node in members(root, "", source, faults):
        sections.append((section, key))
        if isinstance(node, yaml.MappingNode):
            for field, field_key, value in members(node, section, source, faults):
                place = place_of(value, source)
                entries.append(
                    Entry(section=section, field=field, value=value_of(value), key=field_key, place=place)
                )
        elif value_of(node) is not None:  # a section whose every line is commented out is null, and fine
            place = place_of(node, source)
            faults.append(Fault(place=place, name=section, what="must hold settings, each on a line of its own"))
    return Document(sections=tuple(sections), entries=tuple(entries), faults=tuple(faults))


def members(
    node: yaml.MappingNode, within: str, source: str, faults: list[Fault]
) -> Iterator[tuple[str, Place, yaml.Node]]:
    """A mapping's members with text names; a name that is no text, or comes twice, is a fault."""
    first: dict[str, Place] = {}
    for key_node, value in node.value:
        place = place_of(key_node, source)
        if not isinstance(key_node, yaml.ScalarNode):
            faults.append(Fault(place=place, name=within, what="a name must be plain text"))
            continue
        key = readable(key_node.value)
        if key in first:
            name = f"{within}.{key}" if within else key
            faults.append(Fault(place=place, name=name, what=f"is there twice, first in line {first[key].line}"))
            continue
        first[key] = place
        yield key, place, value


def readable(name: str) -> str:
    """A name from outside, fit for a terminal: printable, and not longer than a name can be."""
    shown = name if name.isprintable() and name else ascii(name)
    return shown if len(shown) <= 64 else shown[:60] + "…"


def value_of(node: yaml.Node) -> Any:
    """A scalar as None, bool, int, float or str; a collection as an empty list or dict, only to name its kind."""
    if not isinstance(node, yaml.ScalarNode):
        return {} if isinstance(node, yaml.MappingNode) else []
    text: str = node.value
    match node.tag.removeprefix("tag:yaml.org,2002:"):
        case "null":
            return None
        case "bool" if text.lower() in {"true", "false"}:
            return text.lower() == "true"
        case "int" if _WHOLE.fullmatch(text):
            return int(text)
        case "float" if _FRACTION.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
    return text
