"""Reading a team's orders as OfferGrid lists them: each with its own text, and whether the listing is all of them.

The shape of the listing is not documented. So one JSON array is read, bare or as the only array member of an object,
and anything else is no listing. From a listing that lacks an order it may follow that OfferGrid does not have it. So
every doubt makes a listing not whole: to doubt wrongly leaves an order unknown until an operator looks, to believe
wrongly may place it twice. `_SIGNS` is the table of doubts.

A listing may be 64 MiB: it is read once, one order at a time, and the standard library's decoder does the reading.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

import msgspec

from gateway.core.json_text import Number
from gateway.core.outcome import is_text

_MAX_STATUS: Final = 64
_MAX_DIGITS: Final = 18  # a longer number counts nothing that is real
_WHITESPACE: Final = re.compile(r"[ \t\n\r]*")
_NO_LETTER: Final = re.compile(r"[^a-z0-9]+")
_REL: Final = re.compile(r"""\brel\*?\s*=\s*("[^"]*|[^\s;,]+)""", re.IGNORECASE)
_OTHER_PAGE: Final = re.compile(r"next|prev", re.IGNORECASE)


class ListedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One order of a listing. `text` is its JSON exactly as it stands there (UTF-8); the upstream's id is not empty.
    What is missing, no text that can be written down, or a status of more than 64 characters is None.
    """

    upstream_order_id: str
    gateway_order_id: str | None
    gateway_ledger: str | None
    status: str | None
    text: bytes


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """The orders as they are listed, one that is listed twice twice. `whole` is False in any doubt."""

    orders: tuple[ListedOrder, ...]
    whole: bool


def read_listing(body: bytes, link: str | None = None) -> Listing | None:
    """The listing in the body of a 2xx, or None where there is none: unreadable JSON, bad UTF-8, duplicate members,
    NaN, bottomless nesting, or not exactly one array. `link` is the Link header, several joined by commas.
    """
    try:
        entries, outside = _parts(_Text(body.decode("utf-8")))
    except (ValueError, RecursionError):
        return None
    orders = tuple(order for order in entries if order is not None)
    whole = len(orders) == len(entries) and not _links_on(link) and not _shows_pages(outside, len(entries))
    return Listing(orders=orders, whole=whole)


class _Text:
    """A JSON text and the place up to which it was read, white space included. Broken text is a ValueError."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self._move(0)

    def take(self, mark: str) -> bool:
        seen = self.text.startswith(mark, self.at)
        if seen:
            self._move(self.at + len(mark))
        return seen

    def need(self, mark: str) -> None:
        if not self.take(mark):
            raise ValueError(f"expecting {mark!r} at {self.at}")

    def value(self) -> tuple[Any, slice]:
        """The value that begins here, and its span."""
        start = self.at
        value, end = _DECODER.raw_decode(self.text, start)
        self._move(end)
        return value, slice(start, end)

    def _move(self, at: int) -> None:
        found = _WHITESPACE.match(self.text, at)
        assert found is not None
        self.at = found.end()


def _parts(text: _Text) -> tuple[list[ListedOrder | None], dict[str, Any]]:
    """The entries of the one array, and all that is outside it. The name of the array can be a sign too: it stands
    among the others, without the entries.
    """
    arrays: list[list[ListedOrder | None]] = []
    outside: dict[str, Any] = {}
    if text.take("["):
        arrays.append(_entries(text))
    else:
        text.need("{")
        more = not text.take("}")
        while more:
            name, _ = text.value()
            text.need(":")
            if not isinstance(name, str) or name in outside:
                raise ValueError("no name, or a duplicate member")
            if text.take("["):
                arrays.append(_entries(text))
                outside[name] = []
            else:
                outside[name], _ = text.value()
            more = text.take(",")
            if not more:
                text.need("}")
    if text.at != len(text.text) or len(arrays) != 1:
        raise ValueError("something behind the listing, or not one array")
    return arrays[0], outside


def _entries(text: _Text) -> list[ListedOrder | None]:
    """Behind the opening bracket. None stands for an entry that is no object or has no usable id."""
    entries: list[ListedOrder | None] = []
    if text.take("]"):
        return entries
    while not entries or text.take(","):
        value, span = text.value()
        entries.append(_order(value, text.text[span]))
    text.need("]")
    return entries


def _order(value: Any, text: str) -> ListedOrder | None:
    order_id = _string(value, "orderId") or _string(value, "id")
    if not order_id:
        return None
    metadata, status = value.get("metadata"), _string(value, "status")
    return ListedOrder(
        upstream_order_id=order_id,
        gateway_order_id=_string(metadata, "gatewayOrderId"),
        gateway_ledger=_string(metadata, "gatewayLedger"),
        status=status if status is not None and len(status) <= _MAX_STATUS else None,
        text=text.encode(),
    )


def _string(found: Any, name: str) -> str | None:
    value = found.get(name) if isinstance(found, dict) else None
    return value if isinstance(value, str) and is_text(value) else None


def _links_on(link: str | None) -> bool:
    return link is not None and any(_OTHER_PAGE.search(found[1]) for found in _REL.finditer(link))


def _shows_pages(outside: dict[str, Any], length: int) -> bool:
    """Without recursion: what the decoder could read, this can walk."""
    waiting: list[Any] = [outside]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if any(_is_sign(name, inner, length) for name, inner in value.items()):
                return True
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return False


def _is_sign(name: str, value: Any, length: int) -> bool:
    """By the first row that knows the name, in any spelling: hasMore, has_more, HAS-MORE. Nothing said is no sign."""
    plain = _NO_LETTER.sub("", name.lower())
    sign = next((sign for names, sign in _SIGNS if names.search(plain)), None)
    return value is not None and value != "" and sign is not None and sign(value, length)


def _number(value: Any) -> int | None:
    """A count, as a number or as text; None for anything else that a count may be spelled as."""
    digits = value.text if isinstance(value, Number) else value
    plain = isinstance(digits, str) and digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS
    return int(digits) if plain else None


def _said(value: Any, _length: int) -> bool:
    return value is not False


def _yes(value: Any, _length: int) -> bool:
    return value is not False and _number(value) != 0 and not (isinstance(value, str) and value.lower() == "false")


def _not_one(value: Any, _length: int) -> bool:
    """Neither "yes, the last one" nor "the last one is number 1"."""
    return value is not True and _number(value) != 1


def _above(value: Any, most: int) -> bool:
    found = _number(value)
    return value is not False and (found is None or found > most)


def _full(value: Any, length: int) -> bool:
    """As many as were allowed: nobody can tell whether there are more."""
    found = _number(value)
    return not isinstance(value, dict | list) and (found is None or found <= length)


# Names in lower case without marks, and what their value must say. Signs of pages before this one count as well.
_SIGNS: Final[tuple[tuple[re.Pattern[str], Callable[[Any, int], bool]], ...]] = (
    (re.compile(r"^has(?!h)|more|further|remaining|truncated|partial|incomplete"), _yes),
    (re.compile(r"next|prev"), _said),
    (re.compile(r"cursor|continu|bookmark|marker|scroll|page?(?:ination)?token|evaluatedkey"), _said),
    (re.compile(r"^(?:start)?after$|^before$"), _said),
    (re.compile(r"^rel$"), lambda value, _: isinstance(value, str) and _OTHER_PAGE.search(value) is not None),
    (re.compile(r"^(?:is)?(?:last(?:page)?|complete|whole)$"), _not_one),
    (re.compile(r"^(?:is)?first(?:page)?$"), lambda value, _: value is False),
    (re.compile(r"offset|^skip|index$"), lambda value, _: _above(value, 0)),
    (re.compile(r"^limit$|perpage|pagesize|pagelimit|maxresults|maxitems"), _full),
    (re.compile(r"pages$|pagecount|pagetotal"), lambda value, _: _above(value, 1)),
    (re.compile(r"page"), lambda value, _: not isinstance(value, dict | list) and _above(value, 1)),
    (re.compile(r"total|numfound|(?<!ac)(?<!dis)count(?!r)"), _above),
)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate member")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=Number, parse_float=Number, parse_constant=_no_constant
)
