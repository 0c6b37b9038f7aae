"""Rows 15 to 22: what comes back is not one whole HTTP answer, or comes when nobody asked, or points elsewhere."""

import asyncio
import socket
import threading
from typing import Any, Final

import pytest

from tests.accept.world import wait_until
from tests.faults.matrix import row
from tests.support.front import through
from tests.support.scene import Scene
from tests.upstream.wire import Peer

CREATED: Final = "HTTP/1.1 201 Created\r\n"
BODY: Final = '{"orderId":"{orderId}"}'
# The sandbox puts an order's id, `ord-` and so on, where the braces are; its length is not known here.
CHUNKED: Final = "transfer-encoding: chunked\r\n"


def is_closed_behind(scene: Scene, order_id: str) -> None:
    """The connection on which the order went out carries nothing after it, and ends."""
    calls = [call for call in scene.sandbox.calls if call.complete]
    (number,) = {call.connection for call in scene.posts if order_id.encode() in call.body}
    (log,) = [log for log in scene.sandbox.connections if log.number == number]
    wait_until(lambda: log.closed is not None, "the end of the connection")
    last = [call for call in calls if call.connection == number][-1]
    assert order_id.encode() in last.body


def is_found(scene: Scene, fault: dict[str, Any], answered: int | None = None) -> None:
    """In doubt, then placed, as it is listed; and no other order uses that connection."""
    scene.sandbox.set_fault(**fault)
    want = scene.want()
    order_id = scene.is_unknown(scene.send(want), answered=answered)
    scene.is_placed_in_the_end(want, order_id)
    is_closed_behind(scene, order_id)
    scene.works_again()


@row(
    15,
    fault="the answer's body is cut off, or longer than it says",
    answer="502 outcome-unknown; unknown, then placed",
    holds="half an answer is none; found in the listing; sent once",
)
@pytest.mark.parametrize(
    ("fault", "answered"),
    [({"kind": "truncate"}, None), ({"kind": "truncate", "size": 0}, None), ({"kind": "wrong_length"}, 201)],
    ids=["half", "nothing", "longer"],
)
def test_row_15_body_is_cut_off(direct: Scene, fault: dict[str, Any], answered: int | None) -> None:
    is_found(direct, fault, answered)


@row(
    16,
    fault="something that is no HTTP comes back",
    answer="502 outcome-unknown; unknown, then placed",
    holds="the connection is closed; found in the listing; sent once",
)
@pytest.mark.parametrize("fault", [
    {"kind": "garbage"}, {"kind": "garbage", "close": False}, {"kind": "garbage", "body": BODY, "close": False},
    {"kind": "garbage", "body": "HTTP/2.0 201 Created\r\ncontent-length: 2\r\n\r\n{}", "close": False},
], ids=["closed", "left open", "the body alone", "another HTTP"])  # fmt: skip
def test_row_16_no_http_comes_back(direct: Scene, fault: dict[str, Any]) -> None:
    is_found(direct, fault)


@row(
    17,
    fault="behind a good answer comes more: a second answer, some bytes, a line end",
    answer="201; placed",
    holds="what came behind belongs to nobody: the next order gets its own id, on a connection of its own",
)
@pytest.mark.parametrize("extra", [None, "x", "\r\n"], ids=["a second answer", "a byte", "a line end"])
def test_row_17_more_comes_behind_the_answer(direct: Scene, extra: str | None) -> None:
    direct.sandbox.set_fault("extra_bytes", **({} if extra is None else {"body": extra}))
    first, second = direct.want(), direct.want()
    told = [direct.is_placed(want, direct.send(want)) for want in (first, second)]
    assert len(set(told)) == 2
    assert len({call.connection for call in direct.posts}) == 2


@row(
    18,
    fault="an answer comes on an idle connection, before any order",
    answer="201; placed",
    holds="it is never taken for the next order's answer: the connection is closed, and the next order has its own",
)
@pytest.mark.parametrize("early", [
    b"HTTP/1.1 201 Created\r\ncontent-length: 19\r\n\r\n" + b'{"orderId":"early"}', b"HTTP/1.1 201 Cr", b"\r\n",
], ids=["whole", "half", "a line end"])  # fmt: skip
def test_row_18_answer_before_the_order(road: Scene, early: bytes) -> None:
    seen: list[Peer] = []
    heard = threading.Event()

    async def answers_too_early(peer: Peer) -> None:
        seen.append(peer)
        await peer.send(answer_of(await through(road.front, await peer.request())))
        await asyncio.to_thread(heard.wait)
        await peer.send(early)
        await peer.read_to_end()

    road.front.next(answers_too_early)
    first = road.want()
    told = road.is_placed(first, road.send(first))
    heard.set()
    # What crosses an order on the wire can be told by nobody; what came before it can.
    wait_until(seen[0].ended.is_set, "the end of the connection")
    second = road.want()
    assert road.is_placed(second, road.send(second)) not in (told, "early")
    assert len(road.posts) == 2


def answer_of(whole: bytes) -> bytes:
    """The sandbox's answer as one on a connection that stays."""
    body = whole.partition(b"\r\n\r\n")[2]
    return b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


ODD: Final = {
    "bad chunk size": CREATED + CHUNKED + "\r\nzz\r\n" + BODY,
    "negative chunk": CREATED + CHUNKED + "\r\n-1\r\n" + BODY,
    "chunk that is too short": CREATED + CHUNKED + "\r\n2\r\n" + BODY + "\r\n0\r\n\r\n",
    "chunks without an end": CREATED + CHUNKED + "\r\n2\r\n{}\r\n",
    "line feeds alone": "HTTP/1.1 201 Created\ncontent-length: 2\n\n{}",
    "length and chunks": CREATED + CHUNKED + "content-length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "two lengths": CREATED + "content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "the same length twice": CREATED + "content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
    "a length with a sign": CREATED + "content-length: +2\r\n\r\n{}",
    "chunks inside another coding": CREATED + "transfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a header without a name": CREATED + ": x\r\ncontent-length: 2\r\n\r\n{}",
}


@row(
    19,
    fault="the answer's length can be read in two ways or in none: odd chunks, line ends, two lengths, both",
    answer="502 outcome-unknown; unknown, then placed",
    holds="the connection is closed; found in the listing; sent once",
)
@pytest.mark.parametrize("odd", ODD)
def test_row_19_length_is_odd(direct: Scene, odd: str) -> None:
    # Where an id is needed to be believed, there is one.
    body = (
        ODD[odd]
        .replace("{}", '{"orderId":"x"}')
        .replace("length: 2", "length: 15")
        .replace("\r\n2\r\n", "\r\nf\r\n")
    )
    close = odd == "chunks without an end"
    is_found(direct, {"kind": "garbage", "body": body, "close": close})


@row(
    20,
    fault="interim answers (100, 103) come before the answer: ten",
    answer="201; placed",
    holds="they are passed over",
)
def test_row_20_few_interim_answers(direct: Scene) -> None:
    direct.sandbox.set_fault("1xx_flood", size=10)
    want = direct.want()
    direct.is_placed(want, direct.send(want))


@row(
    20,
    part="eleven, or a hundred thousand",
    answer="502 outcome-unknown; unknown, then placed",
    holds="bounded memory; the connection is closed; found in the listing; sent once",
)
@pytest.mark.parametrize("size", [11, 100_000])
def test_row_20_interim_answers_without_end(direct: Scene, size: int) -> None:
    body = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * size + CREATED
    body += 'content-length: 15\r\n\r\n{"orderId":"x"}'
    with direct.memory_grows_less_than(8):
        is_found(direct, {"kind": "garbage", "body": body, "close": False})


@row(
    21,
    fault="OfferGrid switches to another protocol (101)",
    answer="502 outcome-unknown; unknown, then placed",
    holds="the connection is closed; found in the listing; sent once",
)
@pytest.mark.parametrize(
    "more", ["connection: upgrade\r\nupgrade: h2c\r\n\r\n", "\r\n"], ids=["with its headers", "without"]
)
def test_row_21_switching_protocols(direct: Scene, more: str) -> None:
    body = f'HTTP/1.1 101 Switching Protocols\r\n{more}{CREATED}content-length: 15\r\n\r\n{{"orderId":"x"}}'
    is_found(direct, {"kind": "garbage", "body": body, "close": False})


@row(
    22,
    fault="OfferGrid redirects to another host (301, 302, 303, 307, 308), having taken the order or not",
    answer="502 outcome-unknown; unknown, then placed or not_placed",
    holds="nobody connects to that host: no key, no order",
)
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("place", [True, False], ids=["taken", "not taken"])
def test_row_22_redirected(direct: Scene, code: int, place: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        location = f"http://127.0.0.1:{stranger.getsockname()[1]}/reseller/orders"
        direct.sandbox.set_fault("redirect", code=code, location=location, place=place)
        want = direct.want()
        order_id = direct.is_unknown(direct.send(want), answered=code)
        if place:
            direct.is_placed_in_the_end(want, order_id)
        else:
            direct.is_not_placed_in_the_end(want, order_id)
        stranger.setblocking(False)
        with pytest.raises(BlockingIOError):
            stranger.accept()
