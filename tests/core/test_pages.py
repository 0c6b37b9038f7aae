"""A listing in pages: followed only by an explicit URL, and whole only where the pages are all of it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.listing import Listing, Page, joined, read_page

ROWS = [{"orderId": f"ord-{number}"} for number in range(9)]


def page(start: int, size: int = 3, link: str | None = None, **around: Any) -> Page:
    rows = ROWS[start : start + size]
    found = read_page(json.dumps({"data": rows, **around} if around else rows).encode(), link)
    assert found is not None
    return found


def whole(*pages: Page) -> bool:
    return joined(pages).whole


NEXT = '</reseller/orders?cursor=3>; rel="next"'

FOLLOWED: list[tuple[str | None, dict[str, Any], str | None]] = [
    (NEXT, {}, "/reseller/orders?cursor=3"),
    ("<http://h/o?a=1>; rel=next", {}, "http://h/o?a=1"),
    ('<?p=2>;REL="self NEXT"; title="a, b"', {}, "?p=2"),
    ('</a>; rel="self", </b>; title="x;y"; rel="next", </c>; rel="last"', {}, "/b"),
    ("", {"next": "/o?p=2"}, "/o?p=2"),
    ("", {"nextPage": "/o?p=2"}, "/o?p=2"),
    ("", {"next_page_url": "https://h/o?p=2"}, "https://h/o?p=2"),
    ("", {"@odata.nextLink": "HTTP://h/o"}, "HTTP://h/o"),
    ("", {"links": {"next": "/o?p=2", "self": "/o"}}, "/o?p=2"),
    ("", {"_links": {"nextHref": "?p=2"}}, "?p=2"),
    ("</o?p=2>; rel=next", {"next": "/o?p=2", "links": {"next": "/o?p=2"}}, "/o?p=2"),
    # said in two ways, or not as an address
    ("</o?p=2>; rel=next", {"next": "/o?p=3"}, None),
    ("</o?p=2>; rel=next, </o?p=3>; rel=next", {}, None),
    ("", {"next": "/o?p=2", "nextUrl": "/o?p=3"}, None),
    ("", {"links": {"next": "/o?p=2"}, "_links": {"next": "/o?p=2"}}, None),
    ("", {"next": 2}, None), ("", {"next": True}, None), ("", {"next": ""}, None), ("", {"next": None}, None),
    ("", {"next": "abc"}, None), ("", {"next": "//elsewhere/o"}, None), ("", {"next": "file:///etc"}, None),
    ("", {"next": "/o p"}, None), ("", {"next": {"href": "/o"}}, None),
    ("", {"nextCursor": "/o?p=2"}, None), ("", {"nextToken": "/o"}, None), ("", {"cursor": "/o?p=2"}, None),
    ("", {"meta": {"next": "/o?p=2"}}, None),
    ("</o>; rel=prev", {}, None), ("</o>; rel=nextish", {}, None), ("</o>; title=next", {}, None),
    ("/o; rel=next", {}, None), (None, {}, None), ('</a>; rel="next', {}, None),
]  # fmt: skip


@pytest.mark.parametrize(("link", "around", "url"), FOLLOWED)
def test_which_page_is_next(link: str | None, around: dict[str, Any], url: str | None) -> None:
    assert page(0, link=link, **around).next == url


@pytest.mark.parametrize(("link", "around", "url"), [case for case in FOLLOWED if case[2] is not None])
def test_a_page_that_names_a_next_one_is_not_whole_by_itself(
    link: str | None, around: dict[str, Any], url: str | None
) -> None:
    first = page(0, link=link, **around)
    assert not whole(first)
    assert whole(first, page(3))
    assert not whole(first, first)


def test_joined_pages_are_all_their_orders() -> None:
    found = joined([page(0, link=NEXT), page(3, link=NEXT), page(6)])
    assert [order.upstream_order_id for order in found.orders] == [row["orderId"] for row in ROWS]
    assert found.whole


AROUND: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], bool]] = [
    # what the first, the middle and the last page say, and whether they are whole together
    ({}, {}, {}, True),
    (
        {"hasMore": True, "limit": 3, "cursor": "a"},
        {"hasMore": True, "limit": 3},
        {"hasMore": False, "limit": 4},
        True,
    ),
    ({"hasMore": True}, {"hasMore": True}, {"hasMore": True}, False),
    ({}, {}, {"limit": 3}, False),
    ({}, {}, {"nextCursor": "z"}, False),
    ({}, {}, {"cursor": "z"}, False),
    ({}, {}, {"last": False}, False),
    ({"last": False}, {"last": False}, {"last": True}, True),
    ({"first": True}, {"first": False, "prev": "/x"}, {"first": False, "previous": "/x"}, True),
    ({"first": False}, {}, {}, False),
    ({"prev": "/x"}, {}, {}, False),
    ({"hasPrevious": True}, {}, {}, False),
    ({"offset": 0}, {"offset": 3}, {"offset": 6}, True),
    ({"offset": 3}, {"offset": 6}, {"offset": 9}, False),
    ({"page": 1}, {"page": 2}, {"page": 3}, True),
    ({"page": 2}, {"page": 3}, {"page": 4}, False),
    ({"page": "1 of 4"}, {"page": "2 of 4"}, {"page": "3 of 4"}, False),
    ({}, {}, {"page": "3 of 4"}, False),
    ({}, {}, {"offset": "6 to 9"}, False),
    ({"total": 9}, {"total": 9}, {"total": 9}, True),
    ({"total": 10}, {}, {}, False),
    ({}, {}, {"total": 10}, False),
    ({"total": "many"}, {}, {}, False),
    ({"totalPages": 3}, {"totalPages": 3}, {"totalPages": 3}, True),
    ({"totalPages": 4}, {}, {}, False),
    ({}, {"rel": "prev"}, {"meta": {"rel": "prev"}}, True),
    ({"rel": "prev"}, {}, {}, False),
    ({}, {}, {"rel": "next prev"}, False),
]


@pytest.mark.parametrize(("first", "middle", "last", "is_whole"), AROUND)
def test_what_pages_say_of_each_other(
    first: dict[str, Any], middle: dict[str, Any], last: dict[str, Any], is_whole: bool
) -> None:
    pages = [page(0, link=NEXT, **first), page(3, link=NEXT, **middle), page(6, **last)]
    assert whole(*pages) is is_whole


def test_an_entry_that_is_no_order_makes_doubt_on_any_page() -> None:
    odd = read_page(b'[{"orderId": "ord-8"}, 5]')
    assert odd is not None
    assert not whole(page(0, link=NEXT), odd)
    assert not whole(odd)


def test_an_order_on_two_pages_counts_once() -> None:
    assert joined([page(0, link=NEXT, total=5), page(2)]).whole
    assert not joined([page(0, link=NEXT, total=6), page(2)]).whole


LINKED = st.lists(st.sampled_from(["<", ">", "/a", ";", "rel", "=", '"', "next", "prev", ",", " ", "title"])).map(
    "".join
)
MEMBERS = st.dictionaries(
    st.sampled_from(["next", "nextUrl", "links", "_links", "hasMore", "x"]),
    st.one_of(st.sampled_from(["/a", "/b", "", None, True, 5]), st.dictionaries(st.just("next"), st.just("/a"))),
)


@given(LINKED, MEMBERS)
def test_a_next_page_is_always_a_sign(link: str, around: dict[str, Any]) -> None:
    found = page(0, link=link, **around)
    assert found.next is None or (found.signs.further and not joined([found]).whole)
    assert isinstance(joined([found, found]), Listing)


def test_a_hostile_link_header_is_read_in_no_time() -> None:
    for hostile in ("<" * 20_000, "<a>" + " " * 20_000 + "x", "<a>" + ";" * 20_000, '<a>; rel="' + "next " * 5_000,
                    "<a>" + "; a" * 10_000, "<a>" + "; a = " * 10_000):  # fmt: skip
        assert page(0, link=hostile).next is None
