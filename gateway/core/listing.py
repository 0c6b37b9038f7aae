"""Reading a team's orders as OfferGrid lists them: each with its own text, and whether the listing is all of them.

The shape of the listing is not documented. So one JSON array is read, bare or as the only array member of an object,
and anything else is no listing. From a listing that lacks an order it may follow that OfferGrid does not have it. So
every doubt makes a listing not whole: to doubt wrongly leaves an order unknown until an operator looks, to believe
wrongly may place it twice. `core.page_signs` holds the table of doubts.

A listing may come in pages, each naming the next. They are joined, and are whole together where the first one says
nothing of pages before it, the last one nothing of pages behind it, and none of more than there are.

A listing may be 64 MiB: it is read once, one order at a time, and the standard library's decoder does the reading.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import msgspec

from gateway.core.json_text import Number
from gateway.core.outcome import is_text
from gateway.core.page_signs import Signs, next_page, signs_in

_MAX_STATUS: Final = 64
_WHITESPACE: Final = re.compile(r"[ \t\n\r]*")


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


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One response's part of a listing. `odd`: there were entries that are no orders.

    `next` is the URL of the page behind it as it was written, where there is exactly one to follow.
    """

    orders: tuple[ListedOrder, ...]
    odd: bool
    signs: Signs
    next: str | None


def read_page(body: bytes, link: str | None = None) -> Page | None:
    """The listing in the body of a 2xx, or None where there is none: unreadable JSON, bad UTF-8, duplicate members,
    NaN, bottomless nesting, or not exactly one array. `link` is the Link header, several joined by commas.
    """
    try:
        entries, outside = _parts(_Text(body.decode("utf-8")))
    except (ValueError, RecursionError):
        return None
    orders = tuple(order for order in entries if order is not None)
    return Page(
        orders=orders,
        odd=len(orders) != len(entries),
        signs=signs_in(outside, link, len(entries)),
        next=next_page(outside, link),
    )


def joined(pages: Sequence[Page]) -> Listing:
    """The listing that these pages are, each of them the `next` of the one before; one at least.

    An order that moved from one page to the next meanwhile stands on both, and counts once.
    """
    orders = tuple(order for page in pages for order in page.orders)
    count = len(orders) if len(pages) == 1 else len({order.upstream_order_id for order in orders})
    whole = (
        not any(page.odd for page in pages)
        and not pages[0].signs.earlier
        and not pages[-1].signs.further
        and max(page.signs.orders for page in pages) <= count
        and max(page.signs.pages for page in pages) <= len(pages)
    )
    return Listing(orders=orders, whole=whole)


def read_listing(body: bytes, link: str | None = None) -> Listing | None:
    """As `read_page`, of a listing that is not followed any further."""
    page = read_page(body, link)
    return None if page is None else joined([page])


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
