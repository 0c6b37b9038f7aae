"""Reading a tenant's JSON strictly, and keeping it as text.

Two parsers must never read one body in two ways, and nothing that a tenant wrote may change on its way upstream.
So a body is refused unless it has exactly one reading (RFC 8259 and no more: UTF-8 without a byte order mark, no
duplicate members, no lone surrogates, no NaN, nesting of 64 at most), and it is passed on as its own text, in which
only the span of one member is ever replaced. Numbers are never turned into floats: they stay as they are spelled.

The standard library's decoder does the parsing, because it alone shows duplicates and spans.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import msgspec

from gateway.errors import BadRequest

MAX_NESTING: Final = 64
"""Levels of nesting, the body itself being level 1."""

_WHITESPACE: Final = re.compile(r"[ \t\n\r]*")
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""A string, closed or running to the end: it matches at every quote that begins one, so that no text is read twice."""

_NUMBER: Final = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?")
_MAX_EXPONENT_DIGITS: Final = 18  # beyond it the spelling stands for itself; the arithmetic below stays cheap


class Number(msgspec.Struct, frozen=True):
    """A JSON number as it was spelled. Never a float: big integers and long fractions must survive."""

    text: str

    def canonical(self) -> str:
        """The same text for every spelling of the same value: `1.50` and `15e-1` agree; `-0` is not `0`."""
        if self.text.isdigit():  # most numbers; no pattern is needed to read them
            short = self.text.rstrip("0")
            return f"{short}e{len(self.text) - len(short)}" if short else "0"
        found = _NUMBER.fullmatch(self.text)
        assert found is not None, "the decoder hands over JSON numbers only"
        sign, whole, fraction, exponent = found[1], found[2], found[3] or "", found[4] or "0"
        digits = (whole + fraction).lstrip("0")
        significant = digits.rstrip("0")
        if not significant:
            return sign + "0"
        if len(exponent.lstrip("+-0")) > _MAX_EXPONENT_DIGITS:
            return self.text
        power = _whole(exponent) - len(fraction) + len(digits) - len(significant)
        return f"{sign}{significant}e{power}"


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One member of an object: its name, its parsed value, and where in the text its name and its value begin.

    `text[start:end]` is the value, `text[begin:end]` the whole member.
    """

    name: str
    value: Any
    begin: int
    start: int
    end: int


class JsonObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object of a JSON text: its members in their order, and where its closing brace stands."""

    text: str
    members: tuple[Member, ...]
    closing: int

    def member(self, name: str) -> Member | None:
        return next((member for member in self.members if member.name == name), None)

    def values(self) -> dict[str, Any]:
        return {member.name: member.value for member in self.members}


def read_object(body: bytes) -> JsonObject:
    """The body as one JSON object; anything else, and any body with two readings, is `BadRequest`."""
    text = _decode_utf8(body)
    _refuse_deep_nesting(body)
    try:
        start = _skip(text, 0)
        if text[start : start + 1] != "{":
            _DECODER.raw_decode(text, start)  # broken JSON is a fault of its own
            raise BadRequest("The body must be one JSON object.")
        found = members_at(text, start)
        if _skip(text, found.closing + 1) != len(text):
            raise BadRequest("There is something behind the JSON object.")
    except json.JSONDecodeError as fault:
        raise BadRequest(f"The body is not JSON: line {fault.lineno}, column {fault.colno}.") from fault
    _refuse_lone_surrogates(body, found)
    return found


def members_at(text: str, start: int) -> JsonObject:
    """The members of the object whose opening brace stands at `start`; JSONDecodeError where it is broken."""
    members: list[Member] = []
    at = _skip(text, start + 1)
    if text[at : at + 1] != "}":
        while True:
            begin = at
            name, at = _name_at(text, begin)
            at = _skip(text, _expect(text, _skip(text, at), ":"))
            value, end = _DECODER.raw_decode(text, at)
            members.append(Member(name=name, value=value, begin=begin, start=at, end=end))
            at = _skip(text, end)
            if text[at : at + 1] == "}":
                break
            at = _skip(text, _expect(text, at, ","))
    _refuse_duplicates([member.name for member in members])
    return JsonObject(text=text, members=tuple(members), closing=at)


def canonical_json(value: Any) -> bytes:
    """The same bytes for JSON values that are equal, whatever their white space, member order, escapes or number
    spellings; different bytes for different values.

    A number is written as an object whose only member is a lone surrogate: `read_object` refuses those in a body,
    so that no body can imitate one.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_number_as_object).encode("ascii")


def _number_as_object(value: object) -> dict[str, str]:
    assert isinstance(value, Number)
    return {"\ud800": value.canonical()}


def _decode_utf8(body: bytes) -> str:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise BadRequest(f"The body is not UTF-8 at byte {fault.start}.") from fault
    if text.startswith("\ufeff"):
        raise BadRequest("The body begins with a byte order mark.")
    return text


def _refuse_deep_nesting(body: bytes) -> None:
    """Before the decoder recurses: a body with few brackets cannot be deep, and most have few."""
    if body.count(b"{") + body.count(b"[") <= MAX_NESTING:
        return
    depth = 0
    for byte in _STRING.sub(b"", body):
        if byte in b"{[":
            depth += 1
            if depth > MAX_NESTING:
                raise BadRequest(f"The body is nested more than {MAX_NESTING} levels deep.")
        elif byte in b"}]":
            depth -= 1


def _refuse_lone_surrogates(body: bytes, found: JsonObject) -> None:
    """Only an escape can make one, so bodies without `\\u` are not walked."""
    if b"\\u" not in body:
        return
    try:
        json.dumps(found.values(), ensure_ascii=False, default=lambda _number: None).encode()
    except UnicodeEncodeError as fault:
        raise BadRequest("The body holds a lone surrogate.") from fault


def _whole(exponent: str) -> int:
    """Leading zeros are dropped before Python counts them as digits, of which it reads 4,300 at most."""
    return int("-" * exponent.startswith("-") + (exponent.lstrip("+-0") or "0"))


def _skip(text: str, at: int) -> int:
    found = _WHITESPACE.match(text, at)
    assert found is not None
    return found.end()


def _expect(text: str, at: int, mark: str) -> int:
    if text[at : at + 1] != mark:
        raise json.JSONDecodeError(f"Expecting {mark!r}", text, at)
    return at + 1


def _name_at(text: str, at: int) -> tuple[str, int]:
    if text[at : at + 1] != '"':
        raise json.JSONDecodeError("Expecting a member name", text, at)
    name, end = _DECODER.raw_decode(text, at)
    assert isinstance(name, str)
    return name, end


def _refuse_duplicates(names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise BadRequest("An object has two members of the same name.")


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRequest("An object has two members of the same name.")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest(f"{name} is not JSON.")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object_of, parse_int=Number, parse_float=Number, parse_constant=_refuse_constant
)
