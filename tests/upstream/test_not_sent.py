"""Where it is certain that no byte of an order left: what is said, and what the other side really got."""

import asyncio
import socket

import pytest

from gateway.core.evidence import NotSent
from tests.upstream.scripts import answering
from tests.upstream.wire import OK, WHOLE, FakeClock, Peer, PlainKey, Sender, Settings, against, run, serving


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


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
            sender = Sender(port, Settings(connect_timeout_s=0.1, timeout_s=3600))
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
            assert found == NotSent(reason="defect", detail="the request cannot be written: RuntimeError")
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


def test_order_cancelled_while_connecting_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(Peer.read_to_end) as server:
            sender = Sender(server.port, Settings())
            loop = asyncio.get_running_loop()
            connecting = asyncio.Event()

            async def hang(*_: object) -> None:
                connecting.set()
                await asyncio.Event().wait()

            monkeypatch.setattr(loop, "sock_connect", hang)
            task = asyncio.create_task(sender.place())
            await connecting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not sender.transport._open
            await sender.transport.aclose()

    run(main())
