"""The ways in which a listing can be wrong."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.sandbox import SandboxThread
from tests.sandbox.tools import client, place

COUNT = 7


@pytest.fixture
def ids(sandbox: SandboxThread) -> list[str]:
    """Placed orders, newest first, as a listing shows them."""
    return [place(sandbox, metadata={"n": n, "deep": {"n": n}}) for n in range(COUNT)][::-1]


@pytest.fixture
def http(sandbox: SandboxThread) -> Iterator[httpx.Client]:
    with client(sandbox) as found:
        yield found


def listed(http: httpx.Client, url: str = "/reseller/orders") -> list[str]:
    found: Any = http.get(url).json()
    return [order["orderId"] for order in (found if isinstance(found, list) else found["data"])]


def test_stale_listing_leaves_out_what_is_young(sandbox: SandboxThread, http: httpx.Client, ids: list[str]) -> None:
    sandbox.set_fault("list_stale", after_s=3_600)
    sandbox.set_fault("list_stale", after_s=0)
    assert listed(http) == []
    assert listed(http) == ids
    assert listed(http) == ids


def test_page_without_any_sign_of_more(sandbox: SandboxThread, http: httpx.Client, ids: list[str]) -> None:
    sandbox.set_fault("list_page", size=3)
    answer = http.get("/reseller/orders")
    assert [order["orderId"] for order in answer.json()] == ids[:3]
    assert "link" not in answer.headers


def test_pages_by_link(sandbox: SandboxThread, http: httpx.Client, ids: list[str]) -> None:
    sandbox.set_fault("list_page", size=3, marker="link", count=0)
    found: list[str] = []
    url: str | None = "/reseller/orders"
    while url:
        answer = http.get(url)
        found += [order["orderId"] for order in answer.json()]
        url = answer.links.get("next", {}).get("url")
    assert found == ids


def test_pages_by_next(sandbox: SandboxThread, http: httpx.Client, ids: list[str]) -> None:
    sandbox.set_fault("list_page", size=3, marker="next")
    found: list[str] = []
    url = "/reseller/orders"
    while url:
        page = http.get(url).json()
        found += [order["orderId"] for order in page["data"]]
        url = page["next"]
    assert found == ids


def test_pages_by_cursor(sandbox: SandboxThread, http: httpx.Client, ids: list[str]) -> None:
    sandbox.set_fault("list_page", size=3, marker="cursor")
    found: list[str] = []
    query: dict[str, str] = {}
    while True:
        page = http.get("/reseller/orders", params=query).json()
        found += [order["orderId"] for order in page["data"]]
        if page["cursor"] is None:
            break
        query = {"cursor": page["cursor"]}
    assert found == ids
    assert http.get("/reseller/orders", params={"cursor": "bad"}).status_code == 400


def test_pages_that_only_say_so(sandbox: SandboxThread, http: httpx.Client, ids: list[str]) -> None:
    sandbox.set_fault("list_page", size=3, marker="hasMore")
    sandbox.set_fault("list_page", size=3, marker="total")
    sandbox.set_fault("list_page", size=COUNT, marker="hasMore")
    first, second, third = (http.get("/reseller/orders").json() for _ in range(3))
    assert (len(first["data"]), first["hasMore"]) == (3, True)
    assert (len(second["data"]), second["total"]) == (3, COUNT)
    assert (len(third["data"]), third["hasMore"]) == (COUNT, False)


def test_listing_without_an_order(sandbox: SandboxThread, http: httpx.Client, ids: list[str]) -> None:
    sandbox.set_fault("list_without", orderId=ids[2])
    sandbox.set_fault("list_without", index=1)
    sandbox.set_fault("list_without", metadata={"n": COUNT - 1, "deep": {"n": COUNT - 1}})
    sandbox.set_fault("list_without")
    assert listed(http) == ids[:2] + ids[3:]
    assert listed(http) == ids[:1] + ids[2:]
    assert listed(http) == ids[1:]
    assert listed(http) == ids[1:]


def test_listing_with_an_order_twice(sandbox: SandboxThread, http: httpx.Client, ids: list[str]) -> None:
    sandbox.set_fault("list_twice", orderId=ids[1])
    assert listed(http) == [ids[0], ids[1], ids[1], *ids[2:]]


def test_listing_without_metadata(sandbox: SandboxThread, http: httpx.Client, ids: list[str]) -> None:
    sandbox.set_fault("list_drop_metadata")
    assert all("metadata" not in order for order in http.get("/reseller/orders").json())
    assert all("metadata" in order for order in http.get("/reseller/orders").json())


def test_listing_of_another_account(sandbox: SandboxThread, http: httpx.Client, ids: list[str]) -> None:
    other = place(sandbox, key="sandbox-key-other")
    sandbox.set_fault("list_other_account")
    sandbox.set_fault("list_other_account", account="sandbox-key-other")
    assert listed(http) == []
    assert listed(http) == [other]
    assert listed(http) == ids


def test_listing_in_an_object(sandbox: SandboxThread, http: httpx.Client, ids: list[str]) -> None:
    sandbox.set_fault("list_object")
    found = http.get("/reseller/orders").json()
    assert ([order["orderId"] for order in found["data"]], found["total"]) == (ids, COUNT)


def test_listing_faults_leave_showing_alone(sandbox: SandboxThread, http: httpx.Client, ids: list[str]) -> None:
    sandbox.set_fault("list_other_account")
    assert http.get(f"/reseller/orders/{ids[0]}").json()["orderId"] == ids[0]
    assert listed(http) == []


def test_further_pages_use_up_no_fault(sandbox: SandboxThread, http: httpx.Client, ids: list[str]) -> None:
    sandbox.set_fault("list_page", size=3, marker="next")
    sandbox.set_fault("list_object")
    page = http.get("/reseller/orders").json()
    assert listed(http, page["next"]) == ids[3:6]
    assert http.get("/reseller/orders").json()["total"] == COUNT
