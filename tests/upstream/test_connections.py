"""Which connections are kept, which are dropped, and that nothing but its own answer is ever an order's answer."""

import asyncio
import contextlib
import select
import socket
import threading

import pytest

from gateway.core.evidence import Answered, NotSent, Sent
from gateway.upstream import transport as transport_module
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.dialing import dial
from tests.upstream.scripts import answering, echo, echoing, order
from tests.upstream.wire import OK, WHOLE, FakeClock, Peer, Sender, Settings, against, run, until


def test_one_connection_carries_one_order_after_another() -> None:
    async def main() -> None:
        async with against(echoing) as (sender, server):
            for name in "abc":
                assert await sender.place(order(name)) == Answered(status=201, body=order(name))
            assert len(server.peers) == 1

    run(main())


def test_connection_used_last_is_taken_first_and_only_so_many_are_kept() -> None:
    async def main() -> None:
        async with against(echoing, Settings(max_idle_connections=3)) as (sender, server):
            await asyncio.gather(*(sender.place(order(str(n))) for n in range(6)))
            assert len(server.peers) == 6
            assert len(sender.transport._idle) == 3
            await until(lambda: len(sender.transport._open) == 3)
            last = sender.transport._idle[-1]
            await sender.place()
            assert sender.transport._idle[-1] is last
            assert len(server.peers) == 6

    run(main())


@pytest.mark.parametrize("extra", [OK, b"x", b"\r\n"])
def test_bytes_left_over_are_never_the_next_orders_answer(extra: bytes) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            while True:
                request = await peer.request()
                await peer.send(echo(request) + extra)

        async with against(script) as (sender, server):
            for name in "abc":
                assert await sender.place(order(name)) == Answered(status=201, body=order(name))
            assert len(server.peers) == 3

    run(main())


def test_answer_that_comes_while_idle_ends_the_connection() -> None:
    async def main() -> None:
        unasked = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.send(echo(await peer.request()))
            if peer.number == 0:
                await unasked.wait()
                await peer.send(OK)
            await echoing(peer)

        async with against(script) as (sender, server):
            assert await sender.place(order("a")) == Answered(status=201, body=order("a"))
            assert sender.transport._idle
            unasked.set()
            await until(lambda: not sender.transport._idle)
            assert await sender.place(order("b")) == Answered(status=201, body=order("b"))
            assert len(server.peers) == 2

    run(main())


class Threaded:
    """A server in a thread of its own, so that it acts while the event loop stands still.

    Each connection answers one request. The first one then waits for `go`, sends `unasked` or closes where there is
    none, and keeps what it is sent after that.
    """

    def __init__(self, unasked: bytes) -> None:
        self._unasked = unasked
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.port: int = self._listener.getsockname()[1]
        self.go = threading.Event()
        self.received: list[bytes] = []

    def __enter__(self) -> "Threaded":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        for number in range(2):
            sock, _ = self._listener.accept()
            with sock:
                sock.settimeout(60)
                self.received.append(sock.recv(65536))
                sock.sendall(echo(self.received[-1]))
                if number == 0:
                    self.go.wait()
                    if self._unasked:
                        sock.sendall(self._unasked)
                        # Closed with those bytes unread, the connection ends in a reset.
                        with contextlib.suppress(ConnectionResetError):
                            self.received[-1] += sock.recv(65536)


def test_bytes_that_come_before_the_answer_is_taken_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is whole, and more arrives before the order's task gets to run."""
    received = UpstreamConnection.data_received

    def more(connection: UpstreamConnection, data: bytes) -> None:
        received(connection, data)
        received(connection, b"HTTP/1.1 201 Created\r\n")

    async def main() -> None:
        monkeypatch.setattr(UpstreamConnection, "data_received", more)
        async with against(answering(OK)) as (sender, _):
            assert await sender.place() == WHOLE
            assert not sender.transport._idle
            await until(lambda: not sender.transport._open)

    run(main())


@pytest.mark.parametrize("unasked", [OK, b""], ids=["early answer", "closed"])
def test_what_the_event_loop_has_not_seen_yet_is_seen_before_the_write(unasked: bytes) -> None:
    """The socket itself is asked, since the loop learns of its events only when it gets to run."""

    async def main(server: Threaded) -> None:
        sender = Sender(server.port, Settings())
        assert await sender.place(order("a")) == Answered(status=201, body=order("a"))
        [connection] = sender.transport._idle
        transport = connection._transport
        assert transport is not None
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        server.go.set()
        assert poll.poll(60_000)
        assert connection.is_open()
        assert await sender.place(order("b")) == Answered(status=201, body=order("b"))
        await sender.transport.aclose()

    with Threaded(unasked) as server:
        run(main(server))
    first, second = server.received
    assert order("a") in first
    assert order("b") not in first
    assert order("b") in second


def test_answer_on_a_fresh_connection_is_not_taken_and_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            await peer.send(OK)
            await peer.read_to_end()

        async def dial_and_wait(connection: UpstreamConnection, *rest: object) -> None:
            await dial(connection, *rest)  # type: ignore[arg-type]  # handed through
            await until(lambda: not connection.usable())

        monkeypatch.setattr(transport_module, "dial", dial_and_wait)
        async with against(script) as (sender, server):
            found = await sender.place()
            assert isinstance(found, NotSent)
            assert found.reason == "no_connection"
            await server.peers[0].ended.wait()
            assert server.received == b""

    run(main())


def test_connection_that_the_peer_closed_is_replaced_without_a_second_sending() -> None:
    async def main() -> None:
        async with against(answering(OK, then="close")) as (sender, server):
            for _ in range(3):
                assert await sender.place() == WHOLE
                await until(lambda: not sender.transport._idle)
            assert server.received.count(b"POST ") == 3

    run(main())


def test_connection_that_was_idle_too_long_is_not_used() -> None:
    clock = FakeClock()

    async def main() -> None:
        async with against(echoing, Settings(keepalive_idle_s=3), clock=clock) as (sender, server):
            await sender.place()
            for _ in range(2):
                clock.ahead_s += 2.5
                await sender.place()
            assert len(server.peers) == 1
            clock.ahead_s += 3.5
            await sender.place()
            assert len(server.peers) == 2
            await server.peers[0].ended.wait()

    run(main())


def test_connection_that_was_taken_but_not_used_grows_old_all_the_same() -> None:
    """What counts is when the other side last heard of it."""
    clock = FakeClock()

    async def main() -> None:
        async with against(echoing, Settings(keepalive_idle_s=3), clock=clock) as (sender, server):
            await sender.place()
            clock.ahead_s += 2
            assert isinstance(await sender.place(may_send=lambda: False), NotSent)
            assert len(server.peers) == 1
            clock.ahead_s += 2
            await sender.place()
            assert len(server.peers) == 2

    run(main())


def test_idle_connections_are_closed_by_themselves() -> None:
    async def main() -> None:
        async with against(echoing, Settings(keepalive_idle_s=0.05)) as (sender, server):
            await asyncio.gather(sender.place(), sender.place())
            for peer in server.peers:
                await peer.ended.wait()
            await until(lambda: not sender.transport._open)

    run(main())


def test_closing_the_transport_closes_every_connection() -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            if peer.number == 0:
                await echoing(peer)
            await peer.read_to_end()

        async with against(script) as (sender, server):
            assert isinstance(await sender.place(), Answered)
            held = sender.transport._idle.pop()
            waiting = asyncio.create_task(sender.place())
            await until(lambda: len(server.peers) == 2 and b"items" in server.peers[1].received)
            sender.transport._idle.append(held)
            await sender.transport.aclose()
            assert isinstance(await waiting, Sent)
            for peer in server.peers:
                await peer.ended.wait()
            after = await sender.place()
            assert isinstance(after, NotSent)
            assert len(server.peers) == 2

    run(main())


def test_cancelled_order_closes_its_connection() -> None:
    async def main() -> None:
        async with against(Peer.read_to_end) as (sender, server):
            task = asyncio.create_task(sender.place())
            await until(lambda: b"items" in server.received)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.peers[0].ended.wait()
            await until(lambda: not sender.transport._open)
            assert not sender.transport._idle

    run(main())
