"""Rows 13 and 14: the way to OfferGrid is long and bad, or gone for a while."""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tests.accept.world import wait_until
from tests.faults.matrix import row
from tests.support.front import Rough, through
from tests.support.scene import Scene, Want
from tests.upstream.wire import Peer, Script

ORDERS: Final = 240
TENANTS: Final = 40
# 0.1 s apart, then 0.2 s and so on: longer than the scene's settle_after_s.
LOOKS: Final = 4


@row(
    13,
    fault="200 ms there and back, three of ten pieces lost and sent again, some connections break",
    answer="201; placed, or an honest 502 or 504 outcome-unknown",
    holds="240 orders, 40 at a time: what OfferGrid took is found once the way is good, the rest is sent again: 240",
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
    assert len(hasty.posts) <= ORDERS, "none is sent again by itself"
    for want, answer in zip(wants, answers, strict=True):
        order_id = answer.headers["ordergate-order-id"]
        if want.mark in taken:
            hasty.becomes("placed", order_id)
        else:
            hasty.becomes("not_placed", order_id)
            hasty.is_tried_again(want, order_id)
    marks = [order.data["notes"] for order in hasty.taken]
    assert sorted(marks) == sorted(want.mark for want in wants)
    assert ORDERS / 2 < len(taken) < ORDERS, "some on either side"


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

    want = road.want()
    order_id = stays_unknown_while_nothing_is_reached(road, want, takes_and_disappears)
    road.is_placed_in_the_end(want, order_id)


@row(
    14,
    part="OfferGrid did not take it",
    answer="502 outcome-unknown; unknown, and not_placed only once listings can be read again",
    holds="sent again only after it is not_placed",
)
def test_row_14_partition_in_the_middle_of_the_order(road: Scene) -> None:
    async def disappears(peer: Peer) -> None:
        await road.front.disappear()

    want = road.want()
    order_id = stays_unknown_while_nothing_is_reached(road, want, disappears)
    assert not road.posts
    road.is_not_placed_in_the_end(want, order_id)


def stays_unknown_while_nothing_is_reached(scene: Scene, want: Want, script: Script) -> str:
    """`script` ends with nothing to be reached. The order's id, once everything has healed."""
    scene.front.next(script)
    order_id = scene.is_unknown(scene.send(want))
    failed = scene.metric("ordergate_reconciliations_total", result="failed")
    wait_until(
        lambda: scene.metric("ordergate_reconciliations_total", result="failed") >= failed + LOOKS,
        "looks that fail, for longer than settle_after_s",
    )
    assert scene.view(order_id)["outcome"] == "unknown"
    assert scene.told(scene.send(want), 502, "outcome-unknown", "unknown") == order_id
    scene.front.heal()
    return order_id
