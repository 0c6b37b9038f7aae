"""What a scalar of a file of teams and tenants means: what YAML 1.2 says, and nothing that is read in two ways."""

import json
import re
from collections.abc import Mapping
from typing import Final

from gateway.core.directory import TenantState
from gateway.core.tenancy import MOST
from gateway.settings.document import readable
from gateway.settings.tree import Branch, Leaf, Node

_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)
_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_ALMOST_NUMBER: Final = re.compile(
    r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?"
    r"|0[xX][0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+|\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN",
    re.ASCII,
)
_CONSTANTS: Final[Mapping[str, str]] = {
    spelled: word for word in ("true", "false", "null") for spelled in (word, word.title(), word.upper())
} | {"": "null", "~": "null"}
_STATES: Final[Mapping[str, TenantState]] = {"active": "active", "suspended": "suspended"}


class NoJson(ValueError):
    """A scalar that one reader takes for a number and another for a text."""

    def __init__(self, node: Leaf, what: str) -> None:
        super().__init__(what)
        self.node = node
        self.what = what


def says_nothing(node: Node | None) -> bool:
    """Nothing behind the colon, as where every line below it is commented out."""
    return node is None or (isinstance(node, Leaf) and node.plain and _CONSTANTS.get(node.text) == "null")


def json_of(leaf: Leaf) -> str:
    """The scalar as JSON. A word that YAML 1.1 turns into something else (`yes`, a date) stays a text."""
    if leaf.plain:
        if (constant := _CONSTANTS.get(leaf.text)) is not None:
            return constant
        if _NUMBER.fullmatch(leaf.text):
            return leaf.text
        if _ALMOST_NUMBER.fullmatch(leaf.text):
            raise NoJson(
                leaf, f"{readable(leaf.text)} is no number as JSON has them: change it, or put it in quotes"
            )
    return quoted(leaf)


def quoted(leaf: Leaf) -> str:
    return json.dumps(leaf.text, ensure_ascii=False)


def whole(node: Node, member: str) -> int | None:
    """None for null. ValueError, as below: what is wrong, in words."""
    if says_nothing(node):
        return None
    numeric = isinstance(node, Leaf) and node.plain and _looks_numeric(node)
    shown = node.text if isinstance(node, Leaf) and numeric else kind_of(node)
    if numeric and _WHOLE.fullmatch(shown) and int(shown) <= MOST[member]:
        return int(shown)
    raise ValueError(f"must be a whole number from 0 to {MOST[member]}, or null, not {readable(shown)}")


def truth(node: Node, _member: str) -> bool:
    if isinstance(node, Leaf) and node.plain and (word := _CONSTANTS.get(node.text)) in ("true", "false"):
        return word == "true"
    raise ValueError(f"must be true or false, not {kind_of(node)}")


def state(node: Node, _member: str) -> TenantState:
    if isinstance(node, Leaf) and (found := _STATES.get(node.text)):
        return found
    raise ValueError(f"must be active or suspended, not {kind_of(node)}")


def is_no_text(leaf: Leaf) -> bool:
    """Whether YAML takes it for something else than the text that it looks like."""
    return leaf.plain and (leaf.text in _CONSTANTS or _looks_numeric(leaf))


def _looks_numeric(leaf: Leaf) -> bool:
    return bool(_NUMBER.fullmatch(leaf.text) or _ALMOST_NUMBER.fullmatch(leaf.text))


def kind_of(node: Node) -> str:
    """What was found instead, in words."""
    if not isinstance(node, Leaf):
        return "a list" if isinstance(node, Branch) else "a mapping"
    if node.plain and (word := _CONSTANTS.get(node.text)) is not None:
        return "nothing (leave the line out)" if word == "null" else "true or false"
    if node.plain and _looks_numeric(node):
        return "a number"
    return f"{readable(node.text)!r}"
