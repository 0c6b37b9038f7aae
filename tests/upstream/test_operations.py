"""The bytes of an order, and that whatever a transport does becomes evidence."""

import traceback
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import __version__
from gateway.clock import SystemClock
from gateway.core.evidence import Answered, Evidence, NotSent, Sent
from gateway.upstream.masking import mask
from gateway.upstream.operations import OfferGrid
from gateway.upstream.transport import AttemptFailed, TransportOptions, UpstreamTransport
from tests.upstream.scripts import answering
from tests.upstream.wire import KEY, OK, WHOLE, PlainKey, Settings, against, place_once, run

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_order_goes_out_in_these_bytes() -> None:
    async def main() -> None:
        async with against(answering(OK), Settings(prefix="/v2/team")) as (sender, server):
            assert await sender.place(b'{"a": 1.0}', request_id="r-7") == WHOLE
            head, _, body = server.received.partition(b"\r\n\r\n")
            assert body == b'{"a": 1.0}'
            assert head.decode().split("\r\n") == [
                "POST /v2/team/reseller/orders HTTP/1.1",
                f"host: 127.0.0.1:{server.port}",
                f"user-agent: ordergate/{__version__}",
                "accept: application/json",
                "accept-encoding: identity",
                "content-type: application/json",
                "x-request-id: r-7",
                f"traceparent: {TRACE}",
                f"x-api-key: {KEY}",
                "content-length: 10",
            ]

    run(main())


def test_request_cannot_bring_a_key_or_framing_of_its_own() -> None:
    async def main() -> None:
        async with against(answering(OK, then="serve")) as (sender, server):
            own = {
                "X-Api-Key": "tenant",
                "Host": "evil",
                "Connection": "close",
                "Content-Length": "99",
                "Expect": "x",
            }
            request = httpx.Request(
                "POST",
                sender.base_url + "/reseller/orders",
                headers=own,
                stream=httpx.ByteStream(b"{}"),
                extensions={"ordergate.deadline": sender.clock.monotonic() + 10, "ordergate.key": PlainKey()},
            )
            response = await sender.transport.handle_async_request(request)
            assert response.status_code == 201
            lines = server.received.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")[1:]
            host = f"host: 127.0.0.1:{server.port}".encode()
            assert lines == [host, b"x-api-key: " + KEY.lower().encode(), b"content-length: 2"]
            assert response.extensions["ordergate.reused"] is False
            again = await sender.transport.handle_async_request(request)
            assert again.extensions["ordergate.reused"] is True

    run(main())


@pytest.mark.parametrize("key", ["", "a\r\nx: y", "käse", "a\0b", "a\tb"])
def test_key_that_is_no_header_value_is_not_sent(key: str) -> None:
    async def main() -> None:
        async with against(answering(OK)) as (sender, server):
            found = await sender.place(key=key)
            assert isinstance(found, NotSent)
            assert all(not peer.received for peer in server.peers)

    run(main())


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "a\rb", "a\0b"])
def test_header_that_would_be_more_than_one_is_not_sent(value: str) -> None:
    async def main() -> None:
        async with against(answering(OK)) as (sender, server):
            found = await sender.place(request_id=value)
            assert isinstance(found, NotSent)
            assert all(not peer.received for peer in server.peers)

    run(main())


@pytest.mark.parametrize("missing", ["ordergate.deadline", "ordergate.key"])
def test_request_without_deadline_or_key_is_not_sent(missing: str) -> None:
    async def main() -> None:
        async with against(answering(OK)) as (sender, server):
            extensions = {"ordergate.deadline": sender.clock.monotonic() + 10, "ordergate.key": PlainKey()}
            del extensions[missing]
            request = httpx.Request(
                "POST", sender.base_url + "/reseller/orders", content=b"", extensions=extensions
            )
            with pytest.raises(AttemptFailed) as failure:
                await sender.transport.handle_async_request(request)
            assert isinstance(failure.value.evidence, NotSent)
            assert not server.peers

    run(main())


@pytest.mark.parametrize("base_url", ["ftp://offergrid.example", "offergrid.example", "https://offergrid.example"])
def test_transport_is_not_built_for_what_it_cannot_speak(base_url: str) -> None:
    options = TransportOptions(
        base_url=base_url,
        connect_timeout_s=1,
        keepalive_idle_s=1,
        max_response_bytes=1,
        max_idle_connections=1,
    )
    with pytest.raises(ValueError, match="base_url"):
        UpstreamTransport(options, SystemClock())


# -- the key


def spellings(key: str) -> list[str]:
    escaped = "".join(f"\\u{ord(c):04x}" for c in key)
    return [
        key,
        key.replace("/", "\\/"),
        key.replace("/", "\\\\/"),
        key.replace("/", "\\u002F"),
        key.replace("/", "\\\\u002f"),
        "".join(f"\\u{ord(c):04X}" for c in key),
        escaped,
        key[:5] + escaped[30:],
    ]


@pytest.mark.parametrize("spelling", spellings(KEY))
def test_key_in_an_answer_is_masked(spelling: str) -> None:
    body = f'{{"headers":{{"x-api-key":"{spelling}"}},"also":"{spelling}{spelling}"}}'.encode()
    length = str(len(body)).encode()
    raw = b"HTTP/1.1 400 %b\r\nretry-after: %b\r\ncontent-type: a/%b;b\r\n" % ((spelling.encode(),) * 3)
    found, _ = place_once(answering(raw + b"content-length: " + length + b"\r\n\r\n" + body))
    expected = b'{"headers":{"x-api-key":"***"},"also":"******"}'
    assert found == Answered(status=400, body=expected, content_type="a/***;b", retry_after="***")


def test_masking_leaves_every_other_byte_alone() -> None:
    for text in (b"", b'{"a":"\\u0041\\n"}', KEY.lower().encode(), KEY[:-1].encode(), b"\\" * 100_000):
        assert mask(text, KEY.encode()) is text


@given(
    key=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\*"), min_size=6),
    pieces=st.lists(st.binary(max_size=6), max_size=4),
    ways=st.lists(st.integers(0, 3), min_size=1, max_size=12),
)
def test_no_spelling_of_the_key_survives(key: str, pieces: list[bytes], ways: list[int]) -> None:
    def spell(char: str, way: int) -> str:
        return (char, "\\" + char, f"\\u{ord(char):04x}", f"\\\\u{ord(char):04X}")[way]

    secret = "".join(spell(c, ways[at % len(ways)]) for at, c in enumerate(key)).encode()
    masked = mask(secret.join(pieces) if len(pieces) > 1 else secret, key.encode())
    assert secret not in masked
    assert key.encode() not in masked.replace(b"\\", b"")


def test_masking_takes_no_time_out_of_proportion() -> None:
    """A body of backslashes with the key in it: finished within the test's own time limit."""
    text = b"\\" * 300_000 + KEY.encode() + b"\\" * 300_000
    assert KEY.encode() not in mask(text, KEY.encode())


FAILURES = {
    "cut off": answering(b"HTTP/1.1 201 " + KEY.encode(), then="close"),
    "garbage": answering(KEY.encode()),
    "timeout": answering(b"HTTP/1.1 201 Created\r\nx: " + KEY.encode() + b"\r\n"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_no_error_shows_the_key(name: str) -> None:
    async def main() -> str:
        async with against(FAILURES[name]) as (sender, _):
            request = httpx.Request(
                "POST",
                sender.base_url + "/reseller/orders",
                stream=httpx.ByteStream(b"{}"),
                extensions={"ordergate.deadline": sender.clock.monotonic() + 0.2, "ordergate.key": PlainKey()},
            )
            with pytest.raises(AttemptFailed) as failure:
                await sender.transport.handle_async_request(request)
            assert isinstance(failure.value.evidence, Sent)
            error = failure.value
            shown = traceback.TracebackException.from_exception(error, capture_locals=True)
            frames = [frame for frame in shown.stack if "/gateway/" in frame.filename]
            assert frames
            seen = [str(frame.locals) for frame in frames]
            return repr(error) + str(error) + repr(error.evidence) + repr(request.headers) + "".join(seen)

    assert KEY not in run(main())


# -- other transports


def foreign(transport: httpx.AsyncBaseTransport) -> Evidence:
    grid = OfferGrid(transport, "http://offergrid.example", max_listing_bytes=1000)

    async def main() -> Evidence:
        return await grid.place(
            b"{}",
            request_id="r",
            traceparent=TRACE,
            key=PlainKey(),
            deadline=SystemClock().monotonic() + 10,
            may_send=lambda: True,
        )

    return run(main())


def test_foreign_transports_response_is_answered() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.method == "POST"
        assert str(request.url) == "http://offergrid.example/reseller/orders"
        assert request.headers["host"] == "offergrid.example"
        assert "x-api-key" not in request.headers
        return httpx.Response(429, json={"statusCode": 429}, headers={"retry-after": "3"})

    found = foreign(httpx.MockTransport(answer))
    assert found == Answered(
        status=429, body=b'{"statusCode":429}', content_type="application/json", retry_after="3"
    )


ERRORS = [
    httpx.ConnectError("x"),
    httpx.ConnectTimeout("x"),
    httpx.ReadError("x"),
    AttributeError(),
    OSError(),
    ValueError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_foreign_transports_error_is_sent_whatever_it_says(error: Exception) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    assert foreign(httpx.MockTransport(fail)) == Sent(reason="broken", detail=type(error).__name__)


def test_foreign_body_that_breaks_off_is_sent() -> None:
    class Torn(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b'{"orderId"'
            raise httpx.ReadError("gone")

    found = foreign(httpx.MockTransport(lambda _: httpx.Response(201, stream=Torn())))
    assert found == Sent(reason="broken", detail="ReadError")


def test_foreign_encoded_body_is_not_decoded() -> None:
    answer = httpx.Response(201, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"\x1f\x8b"))
    assert foreign(httpx.MockTransport(lambda _: answer)) == Sent(reason="broken", detail="encoded")
