"""Once the first byte is written: whatever is not one whole readable answer leaves the order `sent`."""

import asyncio
import functools

import pytest

from gateway.core.evidence import Answered, NotSent, Sent
from tests.upstream.scripts import answering
from tests.upstream.wire import OK, OK_BODY, WHOLE, Peer, Settings, against, place_once, run, until

HEAD = b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\n"

TRUNCATED = HEAD + b'content-length: 60\r\n\r\n{"orderId":"ord-1"}'
ANSWERS = {
    "closed before an answer": ((), "close"),
    "reset before an answer": ((), "reset"),
    "garbage": ((b"220 mail.example ESMTP\r\n",), "wait"),
    "truncated": ((TRUNCATED,), "close"),
    "reset within the body": ((TRUNCATED,), "reset"),
    "chunks without an end": ((HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",), "close"),
    "reset where the end of the connection would be the end of the body": ((HEAD + b"\r\n{",), "reset"),
    "interim responses without end": ((b"HTTP/1.1 102 Processing\r\n\r\n" * 1000,), "wait"),
    "101": ((b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",), "wait"),
    "gzip": ((HEAD + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n\x1f\x8b",), "wait"),
    "a huge body": ((HEAD + b"content-length: 2147483648\r\n\r\n",), "wait"),
    "a huge header": ((HEAD, *[b"x-a: " + b"a" * 50_000 + b"\r\n"] * 20), "wait"),
    "ten thousand headers": ((HEAD, b"x: y\r\n" * 10_000), "wait"),
    "coding and length": ((HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n",), "wait"),
    "two lengths": ((HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",), "wait"),
    "LF only": ((OK.replace(b"\r\n", b"\n"),), "wait"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_not_a_whole_answer_leaves_the_order_sent(name: str) -> None:
    pieces, then = ANSWERS[name]
    found, received = place_once(answering(*pieces, then=then))
    assert isinstance(found, Sent)
    assert found.reason == "broken"
    assert received.count(b"POST ") == 1


def test_endless_body_is_cut_off_at_the_limit() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"\r\n")
        while not peer.ended.is_set():
            await peer.send(b"x" * 65536)
            if peer.is_gone():
                await peer.read_to_end()

    found, _ = place_once(script, Settings(max_response_bytes=1_000_000))
    assert found == Sent(reason="broken", detail="larger than allowed")


def test_reset_after_the_headers_were_read_is_sent() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.reset()

    found, _ = place_once(script)
    assert isinstance(found, Sent)
    assert found.reason == "broken"


def test_reset_at_accept_never_says_not_sent_when_bytes_were_read() -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            peer.reset()

        async with against(script) as (sender, server):
            for count in range(1, 21):
                found = await sender.place()
                await until(functools.partial(server.has_taken, count))
                assert isinstance(found, NotSent | Sent)
                if isinstance(found, NotSent):
                    assert server.peers[-1].received == b""

    run(main())


def test_answer_that_trickles_is_a_timeout_at_the_deadline() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        ends = asyncio.create_task(peer.read_to_end())
        await peer.stream(OK * 1000, 0.005, until=peer.ended)
        await ends

    found, _ = place_once(script, Settings(timeout_s=0.2))
    assert found == Sent(reason="timeout", detail="no whole response before the deadline")


def test_request_that_is_not_read_is_a_timeout_and_the_rest_of_it_is_dropped() -> None:
    """Once the attempt is over the kernel must not go on to deliver an order."""
    size = 16_000_000

    async def main() -> None:
        read_on = asyncio.Event()

        async def script(peer: Peer) -> None:
            peer.stop_reading()
            await read_on.wait()
            peer.read_again()
            await peer.read_to_end()

        async with against(script) as (sender, server):
            found = await sender.place(b"x" * size, timeout_s=0.2)
            assert found == Sent(reason="timeout", detail="no whole response before the deadline")
            read_on.set()
            await server.peers[0].ended.wait()
            assert len(server.received) < size
            # A reset, not an orderly end: the kernel, too, has dropped what it still held.
            assert server.peers[0].was_reset

    run(main())


def test_write_that_fails_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of it may be out when it fails, so it counts as all of it."""

    async def main() -> None:
        async with against(answering(OK, then="serve")) as (sender, server):

            def torn(transport: asyncio.Transport, data: bytes) -> None:
                if data.startswith(b"POST"):
                    raise MemoryError

            assert await sender.place() == WHOLE
            monkeypatch.setattr(asyncio.selector_events._SelectorSocketTransport, "write", torn)  # type: ignore[attr-defined]  # asyncio's own
            assert await sender.place() == Sent(reason="broken", detail="the write failed: MemoryError")
            await server.peers[0].ended.wait()

    run(main())


# -- answered


def test_answer_without_length_is_whole_at_its_end() -> None:
    for head in (b"HTTP/1.0 201 Created\r\n", b"HTTP/1.1 201 Created\r\nconnection: close\r\n"):
        raw = head + b"content-type: application/json\r\n\r\n" + OK_BODY
        assert place_once(answering(raw[:80], raw[80:], then="close"))[0] == WHOLE


def test_early_refusal_of_a_large_order_counts() -> None:
    """The server answers before it has read everything: that is an answer, and the connection is of no more use."""

    async def main() -> None:
        async def script(peer: Peer) -> None:
            await peer.head()
            peer.stop_reading()
            await peer.send(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\n{}")
            await until(lambda: peer.is_gone() or done.is_set())

        done = asyncio.Event()
        async with against(script) as (sender, server):
            assert await sender.place(b"x" * 16_000_000) == Answered(status=413, body=b"{}")
            assert not sender.transport._idle
            done.set()
            assert len(server.peers) == 1

    run(main())


def test_retry_after_is_passed_on_as_it_came() -> None:
    raw = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After:  7 \r\ncontent-length: 0\r\n\r\n"
    assert place_once(answering(raw))[0] == Answered(status=429, body=b"", retry_after="7")
