"""Every way an attempt can fail, over real sockets: what it says, and what the other side really got."""

import asyncio
import datetime
import functools
import select
import socket
import ssl
import threading

import pytest
import trustme

from gateway.core.evidence import Answered, NotSent, Sent
from gateway.upstream import transport as transport_module
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.dialing import dial, tls_context
from tests.upstream.wire import (
    KEY,
    OK,
    OK_BODY,
    WHOLE,
    FakeClock,
    Peer,
    PlainKey,
    Sender,
    Settings,
    against,
    answering,
    place_once,
    run,
    serving,
    until,
)

HEAD = b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\n"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


# -- not sent


def test_refused_connection_is_not_sent() -> None:
    async def main() -> None:
        sender = Sender(free_port(), Settings())
        found = await sender.place()
        assert isinstance(found, NotSent)
        assert found.reason == "connect_refused"
        await sender.transport.aclose()

    run(main())


def test_unanswered_connect_is_not_sent_after_its_own_timeout() -> None:
    """A listener whose queue is full drops the handshake, as a black hole does."""

    async def main() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            port = listener.getsockname()[1]
            waiting = [socket.socket() for _ in range(4)]
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
            sender = Sender(port, Settings(connect_timeout_s=0.1))
            found = await sender.place()
            for sock in waiting:
                sock.close()
            await sender.transport.aclose()
        assert found == NotSent(reason="connect_timeout", detail="not connected in time")

    run(main())


def test_deadline_bounds_connecting_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async def never(*_: object, **__: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never)
        sender = Sender(1, Settings(connect_timeout_s=3600))
        found = await sender.place(timeout_s=0.05)
        assert isinstance(found, NotSent)
        assert found.reason == "connect_timeout"
        await sender.transport.aclose()

    run(main())


def test_name_that_cannot_be_resolved_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def main() -> None:
        sender = Sender(80, Settings(host="offergrid.invalid"))
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        found = await sender.place()
        assert isinstance(found, NotSent)
        assert found.reason == "unresolvable"
        await sender.transport.aclose()

    run(main())


def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` may be ::1 first, where OfferGrid listens on 127.0.0.1 alone."""

    async def main() -> None:
        async with against(answering(OK), Settings(host="localhost")) as (sender, server):

            def six_first(*_: object, **__: object) -> list[tuple[object, ...]]:
                return [
                    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", server.port, 0, 0)),
                    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port)),
                ]

            monkeypatch.setattr(socket, "getaddrinfo", six_first)
            assert await sender.place() == WHOLE

    run(main())


def test_deadline_that_is_past_sends_nothing() -> None:
    async def main() -> None:
        async with against(answering(OK, then="serve")) as (sender, server):
            assert isinstance(await sender.place(timeout_s=-1), NotSent)
            assert server.peers == []
            assert await sender.place() == WHOLE
            before = server.received
            late = await sender.place(timeout_s=-1)
            assert isinstance(late, NotSent)
            assert late.reason == "too_late"
            assert await sender.place() == WHOLE
            assert len(server.peers) == 1
            assert server.received == before * 2

    run(main())


def test_may_send_is_the_last_word_and_false_sends_no_byte() -> None:
    async def main() -> None:
        async with against(answering(OK, then="serve")) as (sender, server):
            for _ in range(2):
                found = await sender.place(may_send=lambda: False)
                assert found == NotSent(reason="too_late", detail="no longer allowed to send")
            assert await sender.place(request_id="the-one") == WHOLE
            # The connection went back to the pool unused, so the server saw one, with one request on it.
            assert len(server.peers) == 1
            assert server.received.count(b"POST /reseller/orders HTTP/1.1\r\n") == 1
            assert server.received.startswith(b"POST ")
            assert server.received.endswith(b'{"items":[]}')

    run(main())


def test_may_send_that_fails_sends_no_byte() -> None:
    def fails() -> bool:
        raise RuntimeError("the lease cannot be read")

    async def main() -> None:
        async with against(answering(OK, then="serve")) as (sender, server):
            assert isinstance(await sender.place(may_send=fails), NotSent)
            assert await sender.place() == WHOLE
            assert server.received.count(b"POST ") == 1

    run(main())


def test_nothing_runs_between_may_send_and_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    async def main() -> None:
        async with against(answering(OK, then="serve")) as (sender, _):
            await sender.place()
            write = asyncio.selector_events._SelectorSocketTransport.write  # type: ignore[attr-defined]  # asyncio's own

            def noted(transport: asyncio.Transport, data: bytes) -> None:
                events.append("write" if data.startswith(b"POST") else "other")
                write(transport, data)

            monkeypatch.setattr(asyncio.selector_events._SelectorSocketTransport, "write", noted)  # type: ignore[attr-defined]  # asyncio's own

            def may_send() -> bool:
                events.append("asked")
                asyncio.get_running_loop().call_soon(events.append, "something else")
                return True

            await sender.place(may_send=may_send)

    run(main())
    assert events[:3] == ["asked", "write", "something else"]


def test_key_that_cannot_be_opened_sends_no_byte() -> None:
    class Unreadable(PlainKey):
        def reveal(self) -> str:
            raise RuntimeError("sealed under another master key")

    async def main() -> None:
        async with against(answering(OK, then="serve")) as (sender, server):
            found = await sender.place(key=Unreadable())
            assert found == NotSent(reason="no_connection", detail="the request cannot be written: RuntimeError")
            assert await sender.place() == WHOLE
            assert len(server.peers) == 1
            assert server.received.count(b"POST ") == 1

    run(main())


def test_port_that_cannot_be_is_not_sent() -> None:
    async def main() -> None:
        sender = Sender(1, Settings())
        sender.transport._port = 65_536
        found = await sender.place()
        assert isinstance(found, NotSent)
        assert found.reason == "no_connection"
        await sender.transport.aclose()

    run(main())


# -- TLS

CA = trustme.CA()


def server_context(cert: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert.configure_cert(context)
    return context


def trusting(ca: trustme.CA) -> ssl.SSLContext:
    with ca.cert_pem.tempfile() as path:
        return tls_context(path)


def tls_settings(**changes: float) -> Settings:
    return Settings(
        scheme="https", host="localhost", ssl_context=trusting(CA), connect_timeout_s=changes.get("t", 5)
    )


PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
BAD_CERTIFICATES = {
    "expired": lambda: CA.issue_cert("localhost", not_before=PAST, not_after=PAST + datetime.timedelta(days=1)),
    "wrong name": lambda: CA.issue_cert("offergrid.example"),
    "unknown issuer": lambda: trustme.CA().issue_cert("localhost"),
}


@pytest.mark.parametrize("name", BAD_CERTIFICATES)
def test_certificate_that_is_not_offergrids_gets_nothing(name: str) -> None:
    async def main() -> None:
        context = server_context(BAD_CERTIFICATES[name]())
        async with against(answering(OK), tls_settings(), tls=context) as (sender, server):
            found = await sender.place()
            assert isinstance(found, NotSent)
            assert found.reason == "tls"
            assert server.received == b""

    run(main())


def test_key_never_reaches_the_wire_in_the_clear() -> None:
    """Spoken to in plain TCP, a server sees the start of a handshake and nothing else."""

    async def script(peer: Peer) -> None:
        await peer.read()
        await peer.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await peer.read_to_end()

    async def main() -> None:
        async with against(script, tls_settings()) as (sender, server):
            found = await sender.place()
            assert isinstance(found, NotSent)
            assert found.reason == "tls"
            await server.peers[0].ended.wait()
            assert server.received.startswith(b"\x16\x03")
            assert KEY.encode() not in server.received
            assert b"items" not in server.received

    run(main())


def test_handshake_that_never_ends_is_not_sent() -> None:
    async def main() -> None:
        async with against(Peer.read_to_end, tls_settings(t=0.1)) as (sender, _):
            found = await sender.place()
            assert found == NotSent(reason="connect_timeout", detail="not connected in time")

    run(main())


def test_orders_go_over_one_tls_connection() -> None:
    async def main() -> None:
        context = server_context(CA.issue_cert("localhost"))
        async with against(answering(OK, then="serve"), tls_settings(), tls=context) as (sender, server):
            for _ in range(5):
                assert await sender.place() == WHOLE
            assert len(server.peers) == 1

    run(main())


def test_tls_session_tickets_on_a_fresh_connection_are_no_early_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TLS 1.3 server sends them right after the handshake, so the socket is readable before any request."""
    context = server_context(CA.issue_cert("localhost"))

    def serve(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock, context.wrap_socket(sock, server_side=True) as encrypted:
            encrypted.settimeout(60)
            encrypted.recv(65536)
            encrypted.sendall(OK)

    async def dial_and_wait(connection: UpstreamConnection, *rest: object) -> None:
        await dial(connection, *rest)  # type: ignore[arg-type]  # handed through
        transport = connection._transport
        assert transport is not None
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        # The event loop stands still meanwhile: the tickets stay in the kernel.
        assert poll.poll(60_000)

    async def main(port: int) -> None:
        monkeypatch.setattr(transport_module, "dial", dial_and_wait)
        sender = Sender(port, tls_settings())
        assert await sender.place() == WHOLE
        await sender.transport.aclose()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        run(main(listener.getsockname()[1]))
        thread.join()


# -- sent

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


def test_clock_that_runs_ahead_ends_the_attempt_before_it_began() -> None:
    """A process that was paused wakes up with its deadline behind it, between taking a connection and writing."""
    clock = FakeClock()

    async def main() -> None:
        async with serving(answering(OK)) as server:
            sender = Sender(server.port, Settings(), clock)
            dial = sender.transport._dial

            async def paused(deadline: float) -> object:
                connection = await dial(deadline)
                clock.ahead_s += 3600
                return connection

            sender.transport._dial = paused  # type: ignore[method-assign,assignment]  # a pause cannot be scripted
            found = await sender.place()
            assert isinstance(found, NotSent)
            assert found.reason == "too_late"
            await sender.transport.aclose()
            assert server.received == b""

    run(main())
