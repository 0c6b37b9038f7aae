"""What the rows of the fault matrix look at again and again: on the tenant's side, the sandbox's and the ledger's."""

from typing import Any

import httpx

from gateway.sandbox.records import Request
from tests.accept.world import World, wait_until


def posts(world: World) -> list[Request]:
    """The orders that came in at the sandbox in this test. Reconciling reads beside them."""
    return [call for call in world.calls if call.method == "POST"]


def told_unknown(answer: httpx.Response, status: int = 502) -> str:
    """Checks an answer, the first one or a later one, that leaves open what became of the order; the order's id."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert (found["type"], found["status"]) == ("/problems/outcome-unknown", status)
    assert (found["outcome"], found["retryable"]) == ("unknown", True)
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["ordergate-order-id"] == found["orderId"]
    return str(found["orderId"])


def becomes(world: World, order_id: str, outcome: str) -> dict[str, Any]:
    """Waits for the ledger to say so of an order that is `unknown` until then; its view."""
    seen: list[dict[str, Any]] = []

    def settled() -> bool:
        seen.append(world.shown(order_id))
        return bool(seen[-1]["outcome"] != "unknown")

    wait_until(settled, f"{outcome} for {order_id}")
    assert seen[-1]["outcome"] == outcome
    assert seen[-1]["settledAt"] is not None
    return seen[-1]


def is_final(world: World, first: httpx.Response, key: str) -> None:
    """Sent again, under its key or without one, the order of these notes gets its first answer, byte for byte."""
    before = len(posts(world))
    for again in (world.order(key, notes=key), world.order(key, notes=key), world.order(notes=key)):
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["ordergate-order-id"] == first.headers["ordergate-order-id"]
    assert again.headers["ordergate-matched-by"] == "body"
    assert len(posts(world)) == before


def taken(world: World, key: str) -> list[str]:
    """The upstream ids of the orders with these notes that the sandbox holds."""
    return [order.order_id for order in world.sandbox.orders if order.data["notes"] == key]
