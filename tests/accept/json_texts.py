"""JSON as text, in every spelling that one value can have: for tests that compare bytes.

Each strategy draws texts, not values, so that what is expected is known without any parser.
"""

import json
from typing import Any, Final

from hypothesis import strategies as st

SPACE: Final = st.sampled_from(("", "", "", " ", "\n", "\t", "\r\n", " \t\r\n  "))
_SHORT: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\b": "\\b", "\f": "\\f", "\r": "\\r"}


@st.composite
def spelled(draw: st.DrawFn, text: str) -> str:
    """`text` as a JSON string, each character as it is or escaped, as chance has it."""
    parts = []
    for character in text:
        must = character in '"\\' or character < " "
        match draw(st.integers(0, 9)):
            case 0:
                units = character.encode("utf-16-be")
                parts += [f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)]
            case 1 if character == "/":
                parts.append("\\/")
            case _:
                parts.append(_SHORT.get(character, f"\\u{ord(character):04x}") if must else character)
    return f'"{"".join(parts)}"'


def texts(max_size: int = 12) -> st.SearchStrategy[str]:
    """All of Unicode but lone surrogates."""
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=max_size)


NUMBERS: Final = st.one_of(
    st.from_regex(r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,4})?", fullmatch=True),
    st.sampled_from(("-0", "-0.0", "1e999", "-1E+400", "1e-999", "9" * 400, "9" * 5000, "0." + "1" * 400, "1.50")),
)


@st.composite
def objects(draw: st.DrawFn, values: st.SearchStrategy[str], *, names: st.SearchStrategy[str] | None = None) -> str:
    found = draw(st.lists(texts() if names is None else names, max_size=4, unique=True))
    members = [f"{draw(spelled(name))}{draw(SPACE)}:{draw(SPACE)}{draw(values)}" for name in found]
    return "{" + draw(SPACE) + f"{draw(SPACE)},{draw(SPACE)}".join(members) + draw(SPACE) + "}"


@st.composite
def _arrays(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    return "[" + f"{draw(SPACE)},{draw(SPACE)}".join(draw(st.lists(values, max_size=4))) + "]"


VALUES: Final = st.recursive(
    st.one_of(st.sampled_from(("null", "true", "false")), NUMBERS, texts().flatmap(spelled)),
    lambda inner: st.one_of(_arrays(inner), objects(inner)),
    max_leaves=8,
)


def pairs(text: str) -> Any:
    """The value with objects as lists of pairs and numbers as their spelling: nothing of it is lost."""
    return json.loads(text, object_pairs_hook=list, parse_int=str, parse_float=str)
