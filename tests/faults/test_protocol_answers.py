"""Rows 23 to 26: an answer that is whole and cannot be used, or is as large as memory, or ends only with the
connection."""

import json
from typing import Any, Final

import pytest

from tests.faults.matrix import row
from tests.support.front import through
from tests.support.scene import Scene
from tests.upstream.wire import Peer

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB


def is_found_within_bounded_memory(scene: Scene, fault: dict[str, Any], mebibytes: float) -> None:
    scene.sandbox.set_fault(**fault)
    want = scene.want()
    with scene.memory_grows_less_than(mebibytes):
        order_id = scene.is_unknown(scene.send(want))
    scene.is_placed_in_the_end(want, order_id)


@row(
    23,
    fault="the answer is packed, though nobody asked for it: small on the wire, 10 MiB or 10 GiB when unpacked",
    answer="502 outcome-unknown; unknown, then placed",
    holds="nothing is unpacked: memory grows by less than 8 MiB; found in the listing; sent once",
)
@pytest.mark.parametrize("size", [10 * MIB, 10 * GIB], ids=["10 MiB", "10 GiB"])
def test_row_23_packed_answer(direct: Scene, size: int) -> None:
    is_found_within_bounded_memory(direct, {"kind": "gzip_bomb", "size": size}, 8)


@row(23, part="a coding of another kind: br, zstd, one that nobody knows, gzip twice")
@pytest.mark.parametrize("coding", ["br", "zstd", "x-unheard-of", "gzip, gzip", "identity, gzip"])
def test_row_23_unknown_coding(direct: Scene, coding: str) -> None:
    body = f'HTTP/1.1 201 Created\r\ncontent-encoding: {coding}\r\ncontent-length: 15\r\n\r\n{{"orderId":"x"}}'
    is_found_within_bounded_memory(direct, {"kind": "garbage", "body": body, "close": False}, 8)


LARGE: Final[dict[str, dict[str, Any]]] = {
    "2 GiB": {"kind": "huge", "size": 2 * GIB},
    "2 GiB in chunks": {"kind": "huge", "size": 2 * GIB, "where": "chunked"},
    "1 MiB of headers": {"kind": "huge", "size": MIB, "where": "header"},
    "1 MiB in ten headers": {
        "kind": "garbage",
        "body": "HTTP/1.1 201 Created\r\n"
        + f"a: {'b' * (MIB // 10)}\r\n" * 10
        + 'content-length: 15\r\n\r\n{"orderId":"x"}',
        "close": False,
    },
    "10,000 headers": {"kind": "garbage", "body": "HTTP/1.1 201 Created\r\n" + "a: b\r\n" * 10_000, "close": False},
    "300 headers": {
        "kind": "garbage",
        "body": "HTTP/1.1 201 Created\r\n" + "a: b\r\n" * 300 + 'content-length: 15\r\n\r\n{"orderId":"x"}',
        "close": False,
    },
}  # fmt: skip


@row(
    24,
    fault="the answer is larger than memory: a body of 2 GiB, 1 MiB of headers, 10,000 headers",
    answer="502 outcome-unknown; unknown, then placed",
    holds="no more is kept than may be: memory grows by less than 16 MiB; found in the listing; sent once",
)
@pytest.mark.parametrize("large", LARGE)
def test_row_24_answer_is_too_large(direct: Scene, large: str) -> None:
    is_found_within_bounded_memory(direct, LARGE[large], 16)


UNUSABLE: Final[dict[str, dict[str, Any]]] = {
    "bad UTF-8": {"body_base64": "eyJvcmRlcklkIjoi/yJ9"},
    "NaN": {"body": '{"orderId":"{orderId}","n":NaN}'},
    "orderId twice": {"body": '{"orderId":"a","orderId":"{orderId}"}'},
    "no orderId": {"body": {"id": "{orderId}"}},
    "orderId 5": {"body": {"orderId": 5}},
    "orderId null": {"body": {"orderId": None}},
    "an empty orderId": {"body": {"orderId": ""}},
    "half a surrogate pair": {"body": '{"orderId":"\\ud800"}'},
    "a list": {"body": [{"orderId": "{orderId}"}]},
    "cut JSON": {"body": '{"orderId":"{orderId}"'},
    "nothing": {"body": ""},
}


@row(
    25,
    fault="a 201 that cannot be believed: bad UTF-8, NaN, orderId twice, none, 5, empty; a list; cut JSON; nothing",
    answer="502 outcome-unknown; unknown, then placed",
    holds="the listing tells the order's id; sent once",
)
@pytest.mark.parametrize("body", UNUSABLE)
def test_row_25_answer_cannot_be_believed(direct: Scene, body: str) -> None:
    direct.sandbox.set_fault("status", code=201, place=True, **UNUSABLE[body])
    want = direct.want()
    order_id = direct.is_unknown(direct.send(want), answered=201)
    direct.is_placed_in_the_end(want, order_id)


OLD: Final = b"HTTP/1.0 201 Created\r\ncontent-type: application/json\r\n\r\n"
CLOSING: Final = b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"


def ends_with_the_connection(scene: Scene, head: bytes, *, keep: float = 1, reset: bool = False) -> None:
    """The next connection: the sandbox's answer without a length, as much of its body as `keep` says, and an end."""

    async def script(peer: Peer) -> None:
        whole = await through(scene.front, await peer.request())
        body = whole.partition(b"\r\n\r\n")[2]
        json.loads(body)
        await peer.send(head + body[: int(len(body) * keep)])
        if reset:
            peer.reset()
        else:
            peer.finish()
            await peer.read_to_end()

    scene.front.next(script)


@row(
    26,
    fault="the answer says no length and ends with the connection: HTTP/1.0, or connection: close",
    answer="201; placed",
    holds="the next order uses another connection",
)
@pytest.mark.parametrize("head", [OLD, CLOSING], ids=["HTTP/1.0", "close"])
def test_row_26_answer_ends_with_the_connection(road: Scene, head: bytes) -> None:
    ends_with_the_connection(road, head)
    want = road.want()
    road.is_placed(want, road.send(want))
    road.works_again()


@row(
    26,
    part="it ends in the middle of the JSON, or with a reset",
    answer="502 outcome-unknown; unknown, then placed",
    holds="found in the listing; sent once",
)
@pytest.mark.parametrize("reset", [False, True], ids=["ended", "reset"])
@pytest.mark.parametrize("head", [OLD, CLOSING], ids=["HTTP/1.0", "close"])
def test_row_26_answer_ends_too_early(road: Scene, head: bytes, reset: bool) -> None:
    ends_with_the_connection(road, head, keep=1 if reset else 0.5, reset=reset)
    want = road.want()
    order_id = road.told(road.send(want), 502, "outcome-unknown", "unknown")
    road.is_placed_in_the_end(want, order_id)
