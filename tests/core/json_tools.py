"""JSON values, spelled in every way that RFC 8259 allows, and a slow reader that says what a body may be.

`rendered` spells a value at random; `accepted` is a reader of its own, written for clarity alone, that the strict
reader must agree with. Neither shares code with what is tested.
"""

import json
import random
import re
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


class Num(str):
    """A number as it is spelled in the text that is to be read."""

    __slots__ = ()


def _spellings(sign: str, whole: str, fraction: str, exponent: str) -> Num:
    return Num(sign + whole + fraction + exponent)


NUMBERS = st.builds(
    _spellings,
    st.sampled_from(["", "-"]),
    st.one_of(st.just("0"), st.from_regex(r"[1-9][0-9]{0,30}", fullmatch=True)),
    st.one_of(st.just(""), st.from_regex(r"\.[0-9]{1,20}", fullmatch=True)),
    st.one_of(st.just(""), st.from_regex(r"[eE][+-]?[0-9]{1,3}", fullmatch=True)),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=16,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=6)


def seeded(seed: int) -> random.Random:
    """Chance that can be had again."""
    return random.Random(seed)  # noqa: S311 - spellings are no secrets


def space(rnd: random.Random) -> str:
    return "".join(rnd.choice(" \t\r\n") for _ in range(rnd.randrange(3)))


def spelled_text(text: str, rnd: random.Random) -> str:
    """A JSON string that means `text`, each character plain or escaped as chance has it."""
    short = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    parts = []
    for character in text:
        ways = [] if character in '"\\' or character < " " else [character, character]
        if character in short:
            ways.append(short[character])
        units = character.encode("utf-16-be").hex()
        digits = [units[at : at + 4] for at in range(0, len(units), 4)]
        ways.append("".join("\\u" + (four.upper() if rnd.random() < 0.5 else four) for four in digits))
        parts.append(rnd.choice(ways))
    return '"' + "".join(parts) + '"'


def spelled_number(number: str, rnd: random.Random) -> str:
    """Another spelling of exactly the same value and the same sign."""
    sign = "-" if number.startswith("-") else ""
    found = re.fullmatch(r"-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?", number)
    assert found is not None
    digits, power = (found[1] + (found[2] or "")), int(found[3] or 0) - len(found[2] or "")
    zeros = rnd.randrange(4)
    digits, power = digits + "0" * zeros, power - zeros
    cut = rnd.randrange(len(digits))  # digits behind the point
    whole, fraction = digits[: len(digits) - cut], digits[len(digits) - cut :]
    power += cut
    whole = whole.lstrip("0") or "0"
    exponent = "" if power == 0 and rnd.random() < 0.5 else rnd.choice("eE") + f"{power:+03d}"
    return sign + whole + (f".{fraction}" if fraction else "") + exponent


def rendered(value: Any, rnd: random.Random, *, shuffle: bool = False, respell: bool = False) -> str:
    """A JSON text of the value, without white space around it."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case Num():
            return spelled_number(value, rnd) if respell else str(value)
        case str():
            return spelled_text(value, rnd)
        case list():
            inner = [rendered(item, rnd, shuffle=shuffle, respell=respell) for item in value]
            opening, closing = "[", "]"
        case _:
            members = list(value.items())
            if shuffle:
                rnd.shuffle(members)
            inner = [
                f"{spelled_text(name, rnd)}{space(rnd)}:{space(rnd)}"
                f"{rendered(item, rnd, shuffle=shuffle, respell=respell)}"
                for name, item in members
            ]
            opening, closing = "{", "}"
    between = [f"{space(rnd)}{item}{space(rnd)}" for item in inner]
    return opening + (",".join(between) or space(rnd)) + closing


def exact(value: Any) -> Any:
    """A value that is equal for equal JSON values: names sorted, numbers as exact decimals with their sign."""
    match value:
        case Num():
            number = Decimal(value)
            return ("number", number.is_signed(), number)
        case list():
            return ("array", tuple(exact(item) for item in value))
        case dict():
            return ("object", frozenset((name, exact(item)) for name, item in value.items()))
        case bool() | None:
            return ("constant", value)
        case _:
            return ("text", value)


def accepted(body: bytes) -> bool:
    """Whether a body is one JSON object with exactly one reading, decided the slow and plain way."""
    try:
        text = body.decode("utf-8", "strict")
    except UnicodeDecodeError:
        return False
    if text.startswith("\ufeff"):
        return False

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in found]
        if any(names[at] in names[:at] for at in range(len(names))):
            raise ValueError("duplicate")
        return dict(found)

    def constant(name: str) -> Any:
        raise ValueError(name)

    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=constant, parse_int=Num, parse_float=Num)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and _plain(value, 1)


def _plain(value: Any, level: int) -> bool:
    """No lone surrogate anywhere, and 64 levels at most."""
    if isinstance(value, str):
        return not any(0xD800 <= ord(character) <= 0xDFFF for character in value)
    if isinstance(value, dict):
        return level <= 64 and all(_plain(n, level) and _plain(v, level + 1) for n, v in value.items())
    if isinstance(value, list):
        return level <= 64 and all(_plain(item, level + 1) for item in value)
    return True
