"""The team's list of orders: asked for with a read, and allowed to be much longer than an answer to an order."""

import asyncio
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import __version__
from gateway.clock import SystemClock
from gateway.core.evidence import Answered, Evidence, NotSent, Sent
from gateway.upstream.masking import mask, mask_in_turns
from gateway.upstream.operations import OfferGrid
from tests.upstream.scripts import answering
from tests.upstream.wire import KEY, OK, WHOLE, FakeClock, Peer, PlainKey, Script, Settings, against, run

EMPTY_LIST = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]"
LIMITS = Settings(max_response_bytes=50_000, max_listing_bytes=3_000_000)


def listed(script: Script, settings: Settings | None = None) -> Evidence:
    async def main() -> Evidence:
        async with against(script, settings) as (sender, _):
            return await sender.list_orders()

    return run(main())


def with_length(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def in_chunks(body: bytes) -> bytes:
    chunks = [body[at : at + 40_000] for at in range(0, len(body), 40_000)]
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%b0\r\n\r\n" % coded


def test_list_is_asked_for_in_these_bytes() -> None:
    async def main() -> None:
        async with against(answering(EMPTY_LIST), Settings(prefix="/v2/team")) as (sender, server):
            assert await sender.list_orders() == Answered(status=200, body=b"[]")
            head, _, body = server.received.partition(b"\r\n\r\n")
            assert body == b""
            assert head.decode().split("\r\n") == [
                "GET /v2/team/reseller/orders HTTP/1.1",
                f"host: 127.0.0.1:{server.port}",
                f"user-agent: ordergate/{__version__}",
                "accept: application/json",
                "accept-encoding: identity",
                f"x-api-key: {KEY}",
                "content-length: 0",
            ]

    run(main())


# -- how long it may be


@pytest.mark.parametrize("framed", [with_length, in_chunks])
def test_list_longer_than_an_order_may_be_is_answered_whole(framed: Callable[[bytes], bytes]) -> None:
    for length in (50_001, 3_000_000):
        body = (b'{"id":"ord-1"},' * (length // 15 + 1))[:length]
        assert listed(answering(framed(body)), LIMITS) == Answered(status=200, body=body)


@pytest.mark.parametrize("framed", [with_length, in_chunks])
def test_list_longer_than_a_list_may_be_is_broken(framed: Callable[[bytes], bytes]) -> None:
    too_long = Sent(reason="broken", detail="larger than allowed")
    assert listed(answering(framed(b"x" * 3_000_001)), LIMITS) == too_long


def test_an_orders_answer_stays_short_on_the_connection_that_carried_a_list() -> None:
    """The limit belongs to the request, not to the transport or the connection."""
    body = b"x" * 100_000

    async def main() -> None:
        answers = [with_length(body), OK, with_length(body), with_length(body), with_length(body)]

        async def script(peer: Peer) -> None:
            while True:
                await peer.request()
                await peer.send(answers.pop(0))

        async with against(script, LIMITS) as (sender, server):
            assert await sender.list_orders() == Answered(status=200, body=body)
            assert await sender.place() == WHOLE
            assert await sender.list_orders() == Answered(status=200, body=body)
            assert len(server.peers) == 1
            assert await sender.place() == Sent(reason="broken", detail="larger than allowed")
            assert await sender.list_orders() == Answered(status=200, body=body)
            assert len(server.peers) == 2

    run(main())


def test_list_may_also_be_kept_shorter_than_an_order() -> None:
    settings = Settings(max_response_bytes=1_000_000, max_listing_bytes=10)
    too_long = Sent(reason="broken", detail="larger than allowed")
    assert listed(answering(with_length(b"x" * 11)), settings) == too_long


# -- what it says of further pages


LINKS = {
    "none": (b"", None),
    "one": (b'Link: </orders?page=2>; rel="next"\r\n', '</orders?page=2>; rel="next"'),
    "several": (b"link: <a>; rel=next\r\nx: y\r\nLINK: <b>; rel=last\r\n", "<a>; rel=next, <b>; rel=last"),
    "an empty one": (b"link:\r\n", ""),
    "one with the key in it": (b"link: </orders?key=" + KEY.encode() + b">\r\n", "</orders?key=***>"),
}


@pytest.mark.parametrize("name", LINKS)
def test_link_headers_are_passed_on(name: str) -> None:
    lines, link = LINKS[name]
    raw = EMPTY_LIST.replace(b"OK\r\n", b"OK\r\n" + lines)
    assert listed(answering(raw)) == Answered(status=200, body=b"[]", link=link)


def test_link_of_an_interim_response_is_not_the_lists() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </style>\r\n\r\n"
    assert listed(answering(hints + EMPTY_LIST)) == Answered(status=200, body=b"[]")


def test_any_transport_is_told_the_limit_and_its_links_are_joined() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.method == "GET"
        assert request.extensions["ordergate.max_response_bytes"] == 1000
        assert "content-type" not in request.headers
        return httpx.Response(200, content=b"[]", headers=[("Link", "<a>"), ("link", "<b>")])

    grid = OfferGrid(httpx.MockTransport(answer), "http://offergrid.example", max_listing_bytes=1000)
    deadline = SystemClock().monotonic() + 10
    assert run(grid.list_orders(key=PlainKey(), deadline=deadline)) == Answered(
        status=200, body=b"[]", link="<a>, <b>"
    )


# -- a further page


@pytest.mark.parametrize(
    ("page", "target"),
    [
        ("?cursor=a%2Fb&x=1", "?cursor=a%2Fb&x=1"),
        ("/v2/reseller/orders?page=2", "?page=2"),
        ("http://127.0.0.1:{port}/v2/reseller/orders?page=2", "?page=2"),
        ("HTTP://127.0.0.1:{port}/v2/reseller/../reseller/orders?page=2#end", "?page=2"),
        ("?q=\u00e4 b", "?q=%C3%A4%20b"),
    ],
)
def test_a_further_page_is_asked_for_at_the_lists_own_address(page: str, target: str) -> None:
    async def main() -> None:
        async with against(answering(EMPTY_LIST), Settings(prefix="/v2")) as (sender, server):
            page_url = page.format(port=server.port)
            assert await sender.list_orders(page=page_url) == Answered(status=200, body=b"[]")
            lines = server.received.decode().split("\r\n")
            assert lines[:2] == [f"GET /v2/reseller/orders{target} HTTP/1.1", f"host: 127.0.0.1:{server.port}"]
            assert f"x-api-key: {KEY}" in lines

    run(main())


@pytest.mark.parametrize(
    "page",
    [
        "http://127.0.0.1:1/v2/reseller/orders?page=2", "http://localhost:{port}/v2/reseller/orders?page=2",
        "https://127.0.0.1:{port}/v2/reseller/orders?page=2", "//evil.example/v2/reseller/orders",
        "http://a:b@127.0.0.1:{port}/v2/reseller/orders", "/reseller/orders?page=2", "/v2/reseller/orders/ord-1",
        "/v2/reseller/orders/../catalog", "/v2/reseller/%6Frders?page=2", "/v2/reseller/orders;x?page=2",
        "http://[::1/", "http://127.0.0.1:x/", "?a=\r\nx: y", "?" + "a" * 5000, "file:///v2/reseller/orders",
    ],
)  # fmt: skip
def test_no_other_address_is_asked_for_a_further_page(page: str) -> None:
    async def main() -> None:
        async with against(answering(EMPTY_LIST), Settings(prefix="/v2")) as (sender, server):
            found = await sender.list_orders(page=page.format(port=server.port))
            assert isinstance(found, NotSent)
            assert found.reason == "defect"
            assert not server.peers

    run(main())


def test_all_pages_together_are_no_longer_than_a_list_may_be() -> None:
    async def main() -> None:
        settings = Settings(max_listing_bytes=100)
        async with against(answering(with_length(b"x" * 40), then="serve"), settings) as (sender, _):
            for spent in (0, 60):
                assert isinstance(await sender.list_orders(spent_bytes=spent), Answered)
            for spent in (61, 100, 1000):
                assert isinstance(await sender.list_orders(spent_bytes=spent), Sent)

    run(main())


# -- the deadline


def test_list_that_trickles_is_a_timeout_at_the_deadline() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        ends = asyncio.create_task(peer.read_to_end())
        await peer.stream(with_length(b"x" * 100_000), 0.005, until=peer.ended)
        await ends

    found = listed(script, Settings(timeout_s=0.2))
    assert found == Sent(reason="timeout", detail="no whole response before the deadline")


def test_list_is_not_asked_for_after_the_deadline() -> None:
    async def main() -> None:
        clock = FakeClock()
        async with against(answering(EMPTY_LIST, then="serve"), clock=clock) as (sender, server):
            assert isinstance(await sender.list_orders(), Answered)
            found = await sender.list_orders(timeout_s=0)
            assert isinstance(found, NotSent)
            assert found.reason == "too_late"
            assert server.received.count(b"GET ") == 1

    run(main())


# -- the key in a long list


def test_key_in_a_long_list_is_masked_wherever_it_is() -> None:
    spellings = [KEY, KEY.replace("/", "\\/"), "".join(f"\\u{ord(c):04x}" for c in KEY)]
    body = expected = b""
    for spelling in spellings:
        for ahead in (1, 10, 20):
            # Across the next edge of the pieces that are looked through.
            filler = b"x" * (65_536 - len(body) % 65_536 - ahead)
            body += filler + spelling.encode()
            expected += filler + b"***"
    assert listed(answering(with_length(body)), LIMITS) == Answered(status=200, body=expected)


def test_long_text_without_the_key_comes_back_as_the_same_object() -> None:
    for text in (b"x" * 200_000, b'\\"' * 100_000, (KEY[:-1].encode() + b"\\u0041") * 5_000):
        assert run(mask_in_turns(text, KEY.encode())) is text


@given(
    pieces=st.lists(st.sampled_from([b"x", b"\\", b"\\\\\\/", b"sEc", b"\\u0073", b"s\\u0045c/", b"sEc/t"])),
    turn_bytes=st.integers(1, 40),
)
def test_masking_in_turns_is_masking(pieces: list[bytes], turn_bytes: int) -> None:
    text = b"".join(pieces)
    assert run(mask_in_turns(text, b"sEc/t", turn_bytes)) == mask(text, b"sEc/t")


def test_the_loop_turns_while_a_long_text_is_looked_through() -> None:
    async def main() -> None:
        text = b"\\u0041" * 100_000
        masking = asyncio.ensure_future(mask_in_turns(text, KEY.encode(), turn_bytes=10_000))
        turns = 0
        while not masking.done():
            turns += 1
            await asyncio.sleep(0)
        assert masking.result() is text
        assert turns >= 60

    run(main())
