"""The gateway killed again and again under load: what OfferGrid took, what tenants were told and what the ledger says
agree, and no order is there twice.
"""

import random
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import httpx

from gateway.sandbox import SandboxThread
from tests.support.stack import Stack, an_order, running_stack

KILLS = 12
TENANT_THREADS = 6


class Load:
    """Tenants that repeat each order under its key until it is placed, whatever happens in between."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._over = threading.Event()
        self.told: defaultdict[str, set[str]] = defaultdict(set)
        self._threads = [threading.Thread(target=self._run, args=(at,)) for at in range(TENANT_THREADS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, at: int) -> None:
        number = 0
        while not self._over.is_set():
            key, number = f"{at}-{number}", number + 1
            # An order that OfferGrid never got stays unknown; the tenant has others to place.
            for _ in range(40):
                if self._over.is_set() or self._placed(key):
                    break
                self._over.wait(0.05)

    def _placed(self, key: str) -> bool:
        try:
            with self._stack.client(headers={"idempotency-key": key}) as client:
                answer = client.post("/orders", json=an_order(notes=key))
        except (httpx.TransportError, AssertionError, StopIteration):  # it is being killed, or starting
            return False
        if answer.status_code == 201:
            self.told[key].add(answer.json()["orderId"])
        return answer.status_code == 201


def every_order(client: httpx.Client) -> Iterator[dict[str, Any]]:
    """The tenant's orders, page after page."""
    more = ""
    while True:
        page = client.get(f"/orders?limit=100{more}").json()
        yield from page["orders"]
        if page["nextCursor"] is None:
            return
        more = f"&cursor={page['nextCursor']}"


def test_no_order_is_placed_twice_or_lost_however_often_the_gateway_is_killed() -> None:
    settings = {"reconcile__interval_s": 0.2, "budget__reserved_per_minute": 1000}
    chance = random.Random(20261123)  # noqa: S311  # no secret: when to kill
    with (
        SandboxThread(per_minute=0, per_hour=0) as sandbox,
        running_stack(upstream_base_url=sandbox.base_url, **settings) as stack,
    ):
        load = Load(stack)
        for _ in range(KILLS):
            threading.Event().wait(chance.uniform(0.2, 0.8))  # where in an order's life it hits is left to chance
            stack.process.kill()
            stack.start()
        load.end()
        with stack.client() as client:
            outcomes = {order["orderId"]: order for order in every_order(client)}
        orders = sandbox.orders
    taken = [(order.order_id, order.data["metadata"]["gatewayOrderId"]) for order in orders]
    keys = Counter(order.data["notes"] for order in orders)
    print(  # noqa: T201  # the figures
        f"orders {len(taken)}, kills {KILLS}, told {len(load.told)}, twice {sum(keys.values()) - len(keys)}"
    )
    assert len(taken) > KILLS
    assert set(keys.values()) == {1}, "an order is there twice"
    upstream_ids = {upstream_id for upstream_id, _ in taken}
    for key, ids in load.told.items():
        assert len(ids) == 1 and ids <= upstream_ids, f"{key} was told {ids}"
    for upstream_id, order_id in taken:
        assert outcomes[order_id]["outcome"] in ("placed", "unknown"), "nothing that OfferGrid has is denied"
        assert outcomes[order_id]["upstreamOrderId"] in (upstream_id, None)
