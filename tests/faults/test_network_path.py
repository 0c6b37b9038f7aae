"""Rows 13 and 14: the way to OfferGrid is long and bad, or gone for a while."""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tests.accept.world import wait_until
from tests.faults.matrix import row
from tests.support.front import Rough, through
from tests.support.scene import Scene
from tests.upstream.wire import Peer

ORDERS: Final = 240
TENANTS: Final = 40
# One each 0.1 s: twice as long as the scene's settle_after_s.
LOOKS: Final = 10


@row(
    13,
    fault="200 ms there and back, three of ten pieces lost and sent again, some connections break",
    answer="201; placed, or an honest 502 or 504 outcome-unknown",
    holds="240 orders, 40 at a time: sent at most once each; what OfferGrid took is found once the way is good",
)
def test_row_13_long_and_bad_way(hasty: Scene) -> None:
    hasty.front.cut()
    hasty.front.road = Rough(one_way_s=0.1, lost=0.3, again_s=0.2, broken=0.03, seed=13)
    wants = [hasty.want() for _ in range(ORDERS)]
    with ThreadPoolExecutor(TENANTS) as pool:
        answers = list(pool.map(hasty.send, wants))
    assert {answer.status_code for answer in answers} == {201, 502, 504}, "each of them happens"
    hasty.front.heal()
    taken = {order.data["notes"] for order in hasty.taken}
    for want, answer in zip(wants, answers, strict=True):
        if want.mark in taken:
            hasty.becomes("placed", answer.headers["ordergate-order-id"])
    marks = [order.data["notes"] for order in hasty.taken]
    assert len(marks) == len(set(marks)) > ORDERS / 2
    assert len(hasty.posts) <= ORDERS


@row(
    14,
    fault="OfferGrid took the order; then nothing can be reached, for longer than settle_after_s",
    answer="502 outcome-unknown; unknown, and placed only once the listing can be read again",
    holds="no look that fails says anything; told the same doubt all the while; sent once",
)
def test_row_14_partition_after_the_order(road: Scene) -> None:
    async def takes_and_disappears(peer: Peer) -> None:
        await through(road.front, await peer.request())
        await road.front.disappear()

    road.front.next(takes_and_disappears)
    want = road.want()
    order_id = road.is_unknown(road.send(want))
    failed = road.metric("ordergate_reconciliations_total", result="failed")
    wait_until(
        lambda: road.metric("ordergate_reconciliations_total", result="failed") >= failed + LOOKS,
        "looks that fail, for longer than settle_after_s",
    )
    assert road.view(order_id)["outcome"] == "unknown"
    assert road.told(road.send(want), 502, "outcome-unknown", "unknown") == order_id
    road.front.heal()
    road.is_placed_in_the_end(want, order_id)
