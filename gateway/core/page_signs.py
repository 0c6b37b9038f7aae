"""What a listing says about pages: whether there are others, how much there is in all, and where the next one is.

Every doubt counts as a sign, since a listing that lacks an order may come to prove that OfferGrid does not have it.
`_SIGNS` is the table of doubts. A next page is followed only where it is named by an explicit URL.
"""

import re
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from gateway.core.json_text import Number

MANY: Final = 1 << 62
"""As many as are claimed where the claim cannot be read."""

_MAX_DIGITS: Final = 18  # a longer number counts nothing that is real
_NO_LETTER: Final = re.compile(r"[^a-z0-9]+")
_LINK: Final = re.compile(r"""<([^<>]*)>((?:\s*+;\s*+[\w*-]++\s*+(?:=\s*+(?:"[^"]*"|[^\s;,"]*+))?)*+)""")
_REL: Final = re.compile(r"""\brel\*?\s*=\s*("[^"]*|[^\s;,]+)""", re.IGNORECASE)
_NEXT: Final = re.compile("next", re.IGNORECASE)
_BEFORE: Final = re.compile("prev", re.IGNORECASE)
_NEXT_MEMBER: Final = re.compile(r"^(?:odata)?next(?:page)?(?:ur[il]|link|href)?$")
_URL: Final = re.compile(r"^(?:https?://|/(?!/)|\?)\S*$", re.IGNORECASE)

Kind = Literal["further", "earlier", "orders", "pages"]


class Signs(msgspec.Struct, frozen=True, kw_only=True):
    """`further`: of pages behind this one, or of nobody knows what; `earlier`: of pages before it.

    `orders`, `pages`: how many there are in all, by the largest claim; 0 where nothing is said.
    """

    further: bool = False
    earlier: bool = False
    orders: int = 0
    pages: int = 0


def signs_in(outside: dict[str, Any], link: str | None, length: int) -> Signs:
    """`outside`: what stands around the array of `length` orders, at any depth; `link`: the Link header."""
    relations = [found[1] for found in _REL.finditer(link or "")]
    further = any(_NEXT.search(relation) for relation in relations)
    earlier = any(_BEFORE.search(relation) for relation in relations)
    most: dict[str, int] = {"orders": 0, "pages": 0}
    for name, value in _members(outside):
        sign = _sign(name, value, length)
        if sign is None:
            continue
        kind, claimed = sign
        if claimed:
            most[kind] = max(most[kind], claimed)
        further = further or kind == "further"
        earlier = earlier or kind == "earlier"
    return Signs(further=further, earlier=earlier, orders=most["orders"], pages=most["pages"])


def next_page(outside: dict[str, Any], link: str | None) -> str | None:
    """The URL of the next page as it is written; None where there is not exactly one.

    It stands in the Link header, or as text in a member named next, nextUrl, … of the outermost object or of the one
    object in it that is named links.
    """
    found = {match[1] for match in _LINK.finditer(link or "") if _is_next(match[2])}
    links = [value for name, value in outside.items() if _plain(name) == "links" and isinstance(value, dict)]
    for place in (outside, *(links if len(links) == 1 else ())):
        found |= {
            value
            for name, value in place.items()
            if isinstance(value, str) and _NEXT_MEMBER.search(_plain(name)) and _URL.search(value)
        }
    return found.pop() if len(found) == 1 else None


def _is_next(parameters: str) -> bool:
    return any("next" in found[1].strip('"').lower().split() for found in re.finditer(_REL, parameters))


def _members(outside: dict[str, Any]) -> list[tuple[str, Any]]:
    """All of them at any depth. Without recursion: what the decoder could read, this can walk."""
    members: list[tuple[str, Any]] = []
    waiting: list[Any] = [outside]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            members.extend(value.items())
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return members


def _plain(name: str) -> str:
    """hasMore, has_more, HAS-MORE: one name."""
    return _NO_LETTER.sub("", name.lower())


def _sign(name: str, value: Any, length: int) -> tuple[Kind, int] | None:
    """By the first row that knows the name. Nothing said is no sign."""
    plain = _plain(name)
    if value is None or value == "":
        return None
    return next((sign(plain, value, length) for names, sign in _SIGNS if names.search(plain)), None)


def _number(value: Any) -> int | None:
    """A count, as a number or as text; None for anything else that a count may be spelled as."""
    digits = value.text if isinstance(value, Number) else value
    plain = isinstance(digits, str) and digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS
    return int(digits) if plain else None


def _way(text: str) -> tuple[Kind, int]:
    """By the name of what there is: the one before, or, where that is not plain, another one."""
    return ("earlier" if _BEFORE.search(text) and not _NEXT.search(text) else "further"), 0


def _said(name: str, value: Any, _length: int) -> tuple[Kind, int] | None:
    return None if value is False else _way(name)


def _yes(name: str, value: Any, _length: int) -> tuple[Kind, int] | None:
    no = value is False or _number(value) == 0 or (isinstance(value, str) and value.lower() == "false")
    return None if no else _way(name)


def _relation(_name: str, value: Any, _length: int) -> tuple[Kind, int] | None:
    text = value if isinstance(value, str) else ""
    return _way(text) if _NEXT.search(text) or _BEFORE.search(text) else None


def _not_one(_name: str, value: Any, _length: int) -> tuple[Kind, int] | None:
    """Neither "yes, the last one" nor "the last one is number 1"."""
    return None if value is True or _number(value) == 1 else ("further", 0)


def _not_first(_name: str, value: Any, _length: int) -> tuple[Kind, int] | None:
    return ("earlier", 0) if value is False else None


def _place(most: int) -> "Sign":
    """Where in the whole this page is, when the first one is at `most`; what cannot be read may be anywhere."""

    def sign(_name: str, value: Any, _length: int) -> tuple[Kind, int] | None:
        found = _number(value)
        if value is False or (found is not None and found <= most):
            return None
        return ("further" if found is None else "earlier"), 0

    return sign


def _page_place(name: str, value: Any, length: int) -> tuple[Kind, int] | None:
    return None if isinstance(value, dict | list) else _place(1)(name, value, length)


def _full(_name: str, value: Any, length: int) -> tuple[Kind, int] | None:
    """As many as were allowed: nobody can tell whether there are more."""
    found = _number(value)
    is_full = not isinstance(value, dict | list) and (found is None or found <= length)
    return ("further", 0) if is_full else None


def _claim(kind: Literal["orders", "pages"]) -> "Sign":
    def sign(_name: str, value: Any, _length: int) -> tuple[Kind, int] | None:
        found = _number(value)
        return None if value is False else (kind, MANY if found is None else found)

    return sign


Sign = Callable[[str, Any, int], tuple[Kind, int] | None]

# Names in lower case without marks, and what their value says.
_SIGNS: Final[tuple[tuple[re.Pattern[str], Sign], ...]] = (
    (re.compile(r"^has(?!h)|more|further|remaining|truncated|partial|incomplete"), _yes),
    (re.compile(r"next|prev"), _said),
    (re.compile(r"cursor|continu|bookmark|marker|scroll|page?(?:ination)?token|evaluatedkey"), _said),
    (re.compile(r"^(?:start)?after$|^before$"), _said),
    (re.compile(r"^rel$"), _relation),
    (re.compile(r"^(?:is)?(?:last(?:page)?|complete|whole)$"), _not_one),
    (re.compile(r"^(?:is)?first(?:page)?$"), _not_first),
    (re.compile(r"offset|^skip|index$"), _place(0)),
    (re.compile(r"^limit$|perpage|pagesize|pagelimit|maxresults|maxitems"), _full),
    (re.compile(r"pages$|pagecount|pagetotal"), _claim("pages")),
    (re.compile(r"page"), _page_place),
    (re.compile(r"total|numfound|(?<!ac)(?<!dis)count(?!r)"), _claim("orders")),
)
