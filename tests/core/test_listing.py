"""Listings: every order with its own text, and a listing is whole only where nothing says that it is not."""

import json
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.listing import ListedOrder, Listing, read_listing
from tests.core.json_tools import TEXTS, VALUES, Num, exact, rendered, seeded, space

SEEDS = st.integers(0, 2**32).map(seeded)
ROWS = [{"orderId": f"ord-{number}"} for number in range(3)]
TAKEN = {"data", "orderId", "id", "metadata", "status"}
ORDERS = st.builds(
    lambda order_id, metadata, more: {**more, **metadata, **order_id},
    st.sampled_from(["orderId", "id"]).flatmap(lambda name: st.fixed_dictionaries({name: TEXTS.filter(bool)})),
    st.fixed_dictionaries({}, optional={"metadata": st.dictionaries(TEXTS, VALUES, max_size=3), "status": VALUES}),
    st.dictionaries(TEXTS.filter(lambda name: name not in TAKEN), VALUES, max_size=3),
)


def _read(value: Any, link: str | None = None) -> Listing:
    found = read_listing(json.dumps(value).encode(), link)
    assert found is not None
    return found


def _order(**members: Any) -> ListedOrder:
    (order,) = _read([{"orderId": "ord-1", **members}]).orders
    return order


def _loads(text: bytes) -> Any:
    """With numbers as they are spelled."""
    return exact(json.loads(text, parse_int=Num, parse_float=Num))


def _spelled(rows: list[dict[str, Any]], wrapped: bool, rnd: random.Random) -> tuple[bytes, list[str]]:
    """A listing in some spelling, and the text of each order in it."""
    texts = [rendered(row, rnd) for row in rows]
    array = "[" + (",".join(space(rnd) + text + space(rnd) for text in texts) or space(rnd)) + "]"
    if wrapped:
        before = rnd.choice(["", f'"total"{space(rnd)}:{len(rows)}{space(rnd)},', '"a[":{"b":[{"orderId":"x"}]},'])
        behind = rnd.choice(["", f',{space(rnd)}"hasMore":false', ', "meta": {"pages":1, "in":"]}"}'])
        array = f'{{{space(rnd)}{before}"data"{space(rnd)}:{space(rnd)}{array}{space(rnd)}{behind}{space(rnd)}}}'
    return (space(rnd) + array + space(rnd)).encode(), texts


@given(st.lists(ORDERS, max_size=6), st.booleans(), SEEDS)
def test_every_order_has_exactly_its_own_text(
    rows: list[dict[str, Any]], wrapped: bool, rnd: random.Random
) -> None:
    body, texts = _spelled(rows, wrapped, rnd)
    found = read_listing(body)
    assert found is not None and found.whole
    assert [order.text.decode() for order in found.orders] == texts
    for order, row in zip(found.orders, rows, strict=True):
        assert _loads(order.text) == exact(row)
        assert order.upstream_order_id == row.get("orderId", row.get("id"))


MARKS = st.sampled_from(
    ['"', "\\", "{", "}", "[", "]", ",", ":", " ", "NaN", "1", "-", "\\ud800", "\x00", "é", "null"]
)


@given(st.lists(ORDERS, max_size=3), st.booleans(), SEEDS, st.lists(st.one_of(MARKS, st.binary(max_size=3))))
@example([], False, seeded(1), ["["])
def test_broken_bodies_are_no_listing_or_a_listing_of_what_they_hold(
    rows: list[dict[str, Any]], wrapped: bool, rnd: random.Random, marks: list[str | bytes]
) -> None:
    body, _ = _spelled(rows, wrapped, rnd)
    for mark in marks:
        start = rnd.randrange(len(body) + 1)
        written = mark if isinstance(mark, bytes) else mark.encode()
        body = body[:start] + written + body[start + rnd.randrange(3) :]
    found = read_listing(body)
    if found is not None:
        value = json.loads(body)
        entries = value if isinstance(value, list) else next(v for v in value.values() if isinstance(v, list))
        usable = [entry for entry in entries if isinstance(entry, dict) and _has_id(entry)]
        assert [json.loads(order.text) for order in found.orders] == usable
        assert len(usable) == len(entries) or not found.whole


def _has_id(entry: dict[str, Any]) -> bool:
    found = [entry.get(name) for name in ("orderId", "id")]
    return any(
        isinstance(name, str) and name and not any("\ud800" <= c <= "\udfff" for c in name) for name in found
    )


@pytest.mark.parametrize(
    "body",
    [
        b"", b"  ", b"{}", b"5", b"null", b'"text"', b"[", b"]", b"{", b"<html></html>", b"[]]", b"[] []", b"[{}",
        b"[,]", b"[1,]", b"[1 2]", b'{"data":[],}', b'{"data":[] "a":1}', b"{,}", b'{"data" []}', b"{1:[]}",
        b"[NaN]", b'{"data":[],"a":-Infinity}', b'["\xff"]', b"\xef\xbb\xbf[]", b"\xa0[]", b"\x0c[]", b'["\n"]',
        b'{"data":[],"more":[]}', b'{"a":[{"orderId":"x"}],"b":[]}', b'{"data":{"orders":[]}}',
        b'{"data":[],"data":[]}', b'{"data":[],"a":1,"\\u0061":1}', b'[{"orderId":"a","orderId":"a"}]',
        b'[{"orderId":"a","x":{"y":[{"z":1,"z":1}]}}]', b'{"data":[],"meta":{"a":1,"a":1}}', b'{"a":1,"a":[]}',
        b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000, b'{"data":[],"m":' + b"[" * 100_000,
        b'[{"orderId":"a","x":' + b'{"x":' * 100_000 + b"1" + b"}" * 100_000 + b"}]",
    ],
)  # fmt: skip
def test_anything_else_is_no_listing(body: bytes) -> None:
    assert read_listing(body) is None


SIGNS: list[tuple[str, list[Any], list[Any]]] = [
    # name, values that are a sign beside three orders, values that are none
    ("next", ["/orders?page=2", {"href": "/x"}, 2, True], [None, False, ""]),
    ("nextPageUrl", ["x"], [None, ""]),
    ("NEXT_TOKEN", ["x", 0], [None, ""]),
    ("@odata.nextLink", ["x"], [None]),
    ("previous", ["/orders?page=1"], [None, ""]),
    ("cursor", ["abc", 5, True], [None, "", False]),
    ("endCursor", ["abc"], [None]),
    ("continuation-token", ["abc"], [None]),
    ("pageToken", ["abc"], [None]),
    ("paginationToken", ["abc"], [None]),
    ("LastEvaluatedKey", [{"id": 1}], [None]),
    ("after", ["x"], [None]),
    ("hasMore", [True, "true", "TRUE", 1, "yes", {}], [False, None, "", "false", "False", 0]),
    ("has_more", [True], [False]),
    ("HASMORE", [True], [False]),
    ("more", [True, 7], [False, 0]),
    ("moreAvailable", [True], [False]),
    ("hasNextPage", [True], [False]),
    ("hasPreviousPage", [True], [False]),
    ("truncated", [True], [False]),
    ("incomplete_results", [True], [False]),
    ("remaining", [1], [0]),
    ("total", [4, "4", 1e300, 3.5, 10**30, -1, True, "many", {"value": 4}], [3, 0, "3", None, False]),
    ("totalCount", [4], [3]),
    ("total_items", [4], [3]),
    ("grandTotal", [4], [3]),
    ("count", [4], [3]),
    ("itemCount", [4], [3]),
    ("RECORD-COUNT", [4], [3]),
    ("numFound", [4], [3]),
    ("pages", [2, 3, "2", {"total": 1}], [1, 0, "1", None]),
    ("totalPages", [2, 3], [1, 0]),
    ("page_count", [2], [1]),
    ("page", [2, "1 of 2", True], [0, 1, None, {"size": 20}]),
    ("currentPage", [2], [1]),
    ("lastPage", [5, False], [1, True, None]),
    ("isLast", [False], [True]),
    ("last", [False, "/orders?page=5"], [True]),
    ("first", [False], [True]),
    ("complete", [False, 0], [True]),
    ("offset", [3, "x"], [0, None]),
    ("pageIndex", [1], [0]),
    ("limit", [3, 2, "3"], [4, 100, "50", None]),
    ("perPage", [3], [50]),
    ("pageSize", [3], [50]),
    ("rel", ["next", "prev"], ["self", 5]),
    # names that only look like signs
    ("account", [], ["acc-1", 900]),
    ("discount", [], [900]),
    ("country", [], ["CH", 900]),
    ("context", [], ["x"]),
    ("hash", [], ["abc"]),
    ("requestId", [], ["x", 900]),
    ("lastModified", [], ["2025-01-02"]),
]
SIGN_CASES = [(name, value, False) for name, yes, _ in SIGNS for value in yes] + [
    (name, value, True) for name, _, no in SIGNS for value in no
]


@pytest.mark.parametrize(("name", "value", "whole"), SIGN_CASES)
def test_signs_of_further_pages_at_any_depth(name: str, value: Any, whole: bool) -> None:
    for outside in ({name: value}, {"meta": {name: value}}, {"meta": {"links": [[{"x": 1}, {name: value}]]}}):
        assert _read({"data": ROWS, **outside}).whole is whole
        assert _read({**outside, "data": ROWS}).whole is whole


@pytest.mark.parametrize(("name", "value", "whole"), SIGN_CASES)
def test_nothing_inside_an_order_is_a_sign(name: str, value: Any, whole: bool) -> None:
    rows = [{**row, name: value, "metadata": {name: value}} for row in ROWS]
    assert _read(rows).whole and _read({"data": rows}).whole


def test_the_name_of_the_array_can_be_a_sign() -> None:
    assert not _read({"nextOrders": ROWS}).whole
    assert all(_read({name: ROWS}).whole for name in ("data", "orders", "items", "results", "page", "content"))


@pytest.mark.parametrize(
    ("link", "whole"),
    [
        (None, True), ("", True), ('</orders>; rel="self"', True), ("</next>; rel=self", True), ("</orders>", True),
        ('</next?rel>; title="next"', True), ('</o?c=1>; rel="next"', False), ("</o?c=1>; rel=next", False),
        ("</o>;REL = Next", False), ('</o>; rel="self next"', False), ("</o>; rel*=UTF-8''next", False),
        ('</a>; rel="self", </b>; rel="next"', False), ('</a>; rel="prev"', False), ('</a>; rel="next', False),
        ("</a>; rel='next'", False),
    ],
)  # fmt: skip
def test_a_link_to_another_page(link: str | None, whole: bool) -> None:
    assert _read(ROWS, link).whole is whole


@pytest.mark.parametrize(
    "entry",
    [
        None, 5, "ord-9", [], [{"orderId": "x"}], {}, {"orderId": ""}, {"orderId": 5}, {"id": None},
        {"orderId": "\ud800"}, {"order": {"orderId": "x"}},
    ],
)  # fmt: skip
def test_an_entry_that_is_no_order_is_left_out_and_makes_doubt(entry: Any) -> None:
    found = _read([*ROWS, entry])
    assert [order.upstream_order_id for order in found.orders] == ["ord-0", "ord-1", "ord-2"]
    assert not found.whole


def test_an_empty_listing_is_whole() -> None:
    for body in (b"[]", b" [ ] ", b'{"data":[]}', b'{"data" : [ ] , "total" : 0 }'):
        assert read_listing(body) == Listing(orders=(), whole=True)
    assert not _read({"data": [], "total": 1}).whole


def test_the_order_id_goes_before_the_id() -> None:
    for row in ({"id": "b", "orderId": "a"}, {"id": "a"}, {"orderId": None, "id": "a"}):
        assert [order.upstream_order_id for order in _read([row]).orders] == ["a"]


def test_metadata_that_is_missing_or_odd() -> None:
    odds: list[Any] = [None, 5, "x", [], {}, {"gatewayOrderId": 5, "gatewayLedger": None}]
    for odd in (*odds, {"gatewayOrderId": "\udc00"}):
        order = _order(metadata=odd)
        assert (order.gateway_order_id, order.gateway_ledger) == (None, None)
    assert _order().gateway_order_id is None
    assert _order(gatewayOrderId="g-1").gateway_order_id is None
    order = _order(metadata={"gatewayOrderId": "g-1", "gatewayLedger": "l-1", "mine": 1})
    assert (order.gateway_order_id, order.gateway_ledger) == ("g-1", "l-1")


def test_status() -> None:
    assert _order(status="pending").status == "pending"
    assert _order(status="x" * 64).status == "x" * 64
    for odd in (None, 5, ["pending"], "x" * 65, "\ud800"):
        assert _order(status=odd).status is None


def test_an_order_that_is_listed_twice_is_there_twice() -> None:
    metadata = {"gatewayOrderId": "g-1"}
    found = _read(
        [{"orderId": "a", "metadata": metadata}, {"orderId": "b", "metadata": metadata}, {"orderId": "a"}]
    )
    assert [order.upstream_order_id for order in found.orders] == ["a", "b", "a"]
    assert [order.gateway_order_id for order in found.orders] == ["g-1", "g-1", None]


def test_text_is_kept_to_the_byte() -> None:
    text = '{ "orderId":"\\u00e4\\/", "n": 1.50E+2,"é😀":"\\ud83d\\ude00 \\ud800" , "big":' + "9" * 5000 + "}"
    found = read_listing(f"[\n {text}\t, {text}]".encode())
    assert found is not None and [order.text for order in found.orders] == [text.encode()] * 2
    assert found.orders[0].upstream_order_id == "ä/"
