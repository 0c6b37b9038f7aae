"""Rows 5 to 12: the connection breaks, or falls silent, around an order. What may have left is in doubt, and looked
for."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from tests.accept.world import wait_until
from tests.faults.matrix import row
from tests.support.scene import Scene
from tests.upstream.wire import Peer


@row(
    5,
    fault="the connection is reset right after it was accepted, before anything is read",
    answer="502 outcome-unknown where a byte may have left; unknown, then not_placed. Else sent again: 201; placed",
    holds="no attempt that may have sent is followed by another before the listing is looked at",
)
def test_row_05_reset_at_accept(road: Scene) -> None:
    met = []

    async def resets(peer: Peer) -> None:
        met.append(peer)
        peer.reset()

    told: list[list[tuple[str, int | None]]] = []
    while len(told) < 5:
        road.front.cut()
        road.front.next_at_all(resets)
        want = road.want()
        answer = road.send(want)
        if answer.status_code == 201:
            road.is_placed(want, answer)
        else:
            road.told(answer, 502, "outcome-unknown", "unknown")
        told.append(road.attempts(answer.headers["ordergate-order-id"]))
        if told[-1] == [("answered", 201)]:
            del told[-1]  # a look at the listing has met it
        elif answer.status_code == 502:
            road.is_not_placed_in_the_end(want, answer.headers["ordergate-order-id"])
    assert all(attempts in ([("sent", None)], [("not_sent", None), ("answered", 201)]) for attempts in told)
    assert len(met) >= len(told)
    assert not [peer for peer in met if peer.received]
    assert len(road.posts) == len(road.taken)


@row(
    5,
    part="reset at the first byte, on a connection that was kept",
    answer="502 outcome-unknown; unknown, then not_placed",
    holds="sent again only after it is not_placed, and only when the tenant asks",
)
def test_row_05_kept_connection_is_reset(road: Scene) -> None:
    road.works_again()
    road.sandbox.set_fault("reset_before_read")
    want = road.want()
    order_id = road.is_unknown(road.send(want))
    assert len(road.taken) == 1
    road.is_not_placed_in_the_end(want, order_id)


@row(
    6,
    fault="the connection is reset when the order's headers are read, or all of it, and OfferGrid does not act",
    answer="502 outcome-unknown; unknown, then not_placed",
    holds="told the same doubt while it lasts, and sent again only after it",
)
@pytest.mark.parametrize("kind", ["reset_after_headers", "reset_after_read"])
def test_row_06_reset_without_acting(direct: Scene, kind: str) -> None:
    direct.sandbox.set_fault(kind)
    want = direct.want()
    with direct.nothing_is_found_out():
        order_id = direct.is_unknown(direct.send(want))
        assert direct.told(direct.send(want), 502, "outcome-unknown", "unknown") == order_id
    assert (len(direct.posts), len(direct.taken)) == (1, 0)
    direct.is_not_placed_in_the_end(want, order_id)


@row(
    7,
    fault="OfferGrid takes the order, then resets the connection",
    answer="502 outcome-unknown; unknown, then placed",
    holds="the listing's own bytes are its answer from then on, each time the same; sent once",
)
def test_row_07_placed_then_reset(direct: Scene) -> None:
    direct.sandbox.set_fault("place_then_reset")
    want = direct.want()
    order_id = direct.is_unknown(direct.send(want))
    direct.is_placed_in_the_end(want, order_id)


@row(
    8,
    fault="OfferGrid takes the order, then says nothing",
    answer="504 outcome-unknown at timeout_s; unknown, then placed",
    holds="not a moment early; the key is answered with 201 later; counted as a false timeout; sent once",
)
def test_row_08_placed_then_silent(hasty: Scene) -> None:
    false = hasty.metric("ordergate_false_timeouts_total")
    hasty.sandbox.set_fault("place_then_hang")
    want = hasty.want()
    order_id = hasty.is_unknown(hasty.send(want), 504)
    assert hasty.took_s() >= 1
    hasty.is_placed_in_the_end(want, order_id)
    assert hasty.metric("ordergate_false_timeouts_total") == false + 1


@row(
    9,
    fault="OfferGrid ends its side of the connection without an answer",
    answer="502 outcome-unknown; unknown, then not_placed",
    holds="the gateway closes its side; sent again only after it is not_placed",
)
def test_row_09_end_without_an_answer(road: Scene) -> None:
    seen: list[Peer] = []

    async def half_closes(peer: Peer) -> None:
        seen.append(peer)
        await peer.request()
        peer.finish()
        await peer.read_to_end()

    road.front.next(half_closes)
    want = road.want()
    order_id = road.is_unknown(road.send(want))
    wait_until(seen[0].ended.is_set, "the gateway's end")
    assert not road.posts
    road.is_not_placed_in_the_end(want, order_id)


@row(9, part="OfferGrid had taken it", answer="502 outcome-unknown; unknown, then placed", holds="sent once")
def test_row_09_placed_and_ended_without_an_answer(direct: Scene) -> None:
    direct.sandbox.set_fault("garbage", body="")
    want = direct.want()
    direct.is_placed_in_the_end(want, direct.is_unknown(direct.send(want)))


@row(
    10,
    fault="the answer, or its body, trickles in byte by byte",
    answer="504 outcome-unknown at timeout_s; unknown, then placed",
    holds="bytes that keep coming win no time; the order's place is free for the next one",
)
@pytest.mark.parametrize("where", ["answer", "body"])
def test_row_10_answer_trickles(hasty: Scene, where: str) -> None:
    hasty.sandbox.set_fault("trickle", every_s=0.05, where=where)
    want = hasty.want()
    order_id = hasty.is_unknown(hasty.send(want), 504)
    # Each of its some hundred bytes takes 0.05 s.
    assert 1 <= hasty.took_s() < 5
    assert hasty.metric("ordergate_upstream_in_flight") == 0
    hasty.is_placed_in_the_end(want, order_id)
    hasty.works_again()


# A tenth of what is usual on both sides: idle connections are used for 3 s, and closed by OfferGrid after 5 s.
CLOSED_AFTER_S: Final = 0.5
PAUSES_S: Final = tuple(0.2 + 0.06 * number for number in range(11))
AT_ONCE: Final = 8


@row(
    11,
    fault="OfferGrid closes connections that are idle for 5 s; orders come 2 to 8 s apart (all in tenths)",
    answer="201; placed",
    holds="each of 96 orders, on a fresh connection where the old one is too old: none is in doubt",
)
def test_row_11_idle_connections_are_closed(direct: Scene) -> None:
    direct.sandbox.set_fault("idle_close", after_s=CLOSED_AFTER_S, count=0)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for pause_s in (0.0, *PAUSES_S):
            threading.Event().wait(pause_s)  # the pause is what is tried out
            wants = [direct.want() for _ in range(AT_ONCE)]
            answers = list(pool.map(direct.send, wants))
            assert [answer.status_code for answer in answers] == [201] * AT_ONCE, f"{pause_s:.2f} s after the last"
    orders = AT_ONCE * (1 + len(PAUSES_S))
    assert len(direct.posts) == len(direct.taken) == orders


@row(
    12,
    fault="OfferGrid stops reading in the middle of a large order",
    answer="504 outcome-unknown; unknown, then not_placed",
    holds="the rest of it never arrives, not even when OfferGrid reads again after the answer",
)
def test_row_12_large_order_is_not_read(hasty: Scene) -> None:
    seen: list[Peer] = []
    read_again = threading.Event()

    async def stops_reading(peer: Peer) -> None:
        seen.append(peer)
        peer.stop_reading()
        await asyncio.to_thread(read_again.wait)
        peer.read_again()
        await peer.read_to_end()

    hasty.front.cut()
    hasty.front.next(stops_reading)
    want = hasty.want(padding="x" * 200_000)
    order_id = hasty.is_unknown(hasty.send(want), 504)
    read_again.set()
    wait_until(seen[0].ended.is_set, "the end of the connection")
    assert 0 < len(seen[0].received) < 200_000
    assert not hasty.posts
    hasty.is_not_placed_in_the_end(want, order_id)
