"""Which connections are kept, which are dropped, and that nothing but its own answer is ever an order's answer."""

import asyncio
import contextlib
import random
import select
import socket
import threading

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.evidence import Answered, NotSent, Sent
from gateway.upstream import transport as transport_module
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.dialing import dial
from tests.upstream import strict
from tests.upstream.mutations import cut, mutated
from tests.upstream.wire import (
    OK,
    WHOLE,
    FakeClock,
    Peer,
    PlainKey,
    Sender,
    Settings,
    against,
    answering,
    run,
    serving,
    until,
)


def order(name: str) -> bytes:
    return b'{"name":"%b"}' % name.encode()


def echo(request: bytes) -> bytes:
    """An answer whose body is the request's own."""
    body = request.partition(b"\r\n\r\n")[2]
    return b"HTTP/1.1 201 Created\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def echoing(peer: Peer) -> None:
    while True:
        await peer.send(echo(await peer.request()))


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


def test_key_goes_to_the_base_urls_origin_alone() -> None:
    async def main() -> None:
        async with serving(answering(OK)) as other, against(answering(OK)) as (sender, server):
            urls = [
                f"http://127.0.0.1:{other.port}/reseller/orders",
                f"http://localhost:{server.port}/reseller/orders",
            ]
            urls += [f"https://127.0.0.1:{server.port}/reseller/orders", "http://127.0.0.1/reseller/orders"]
            for url in urls:
                request = httpx.Request(
                    "POST",
                    url,
                    content=b"{}",
                    extensions={"ordergate.deadline": sender.clock.monotonic() + 5, "ordergate.key": PlainKey()},
                )
                with pytest.raises(transport_module.AttemptFailed) as failure:
                    await sender.transport.handle_async_request(request)
                assert isinstance(failure.value.evidence, NotSent)
            assert not other.peers
            assert not server.peers

    run(main())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_an_answer_and_is_not_followed(status: int) -> None:
    async def main() -> None:
        async with serving(answering(OK)) as other:
            location = f"http://127.0.0.1:{other.port}/reseller/orders".encode()
            raw = b"HTTP/1.1 %d Moved\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n" % (status, location)
            async with against(answering(raw)) as (sender, server):
                assert await sender.place() == Answered(status=status, body=b"")
                assert len(server.peers) == 1
            assert not other.peers

    run(main())


def test_proxies_in_the_environment_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(answering(OK)) as proxy, against(answering(OK)) as (sender, _):
            for name in ("http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
                monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{proxy.port}")
            assert await sender.place() == WHOLE
            assert not proxy.peers

    run(main())


async def unreliable(peer: Peer) -> None:
    """Answers a few orders and leaves at a moment of its own choosing."""
    chance = random.Random(peer.number)  # noqa: S311 - the same moments in every run
    while True:
        moment = chance.choice(["answer"] * 6 + ["accept", "head", "whole", "half", "after", "idle"])
        if moment == "accept":
            return peer.reset() if chance.random() < 0.5 else peer.close()
        if moment == "head":
            await peer.head()
            return peer.reset() if chance.random() < 0.5 else peer.close()
        raw = echo(await peer.request())
        if moment == "whole":
            return peer.reset() if chance.random() < 0.5 else peer.close()
        if moment == "half":
            await peer.send(raw[: chance.randrange(len(raw))])
            return peer.close()
        await peer.send(raw)
        if moment == "after":
            return peer.close()
        if moment == "idle":
            peer.finish()
            return await peer.read_to_end()


def test_no_order_is_on_the_wire_twice_whatever_the_server_does() -> None:
    async def main() -> None:
        async with against(unreliable) as (sender, server):
            found = {}

            async def some(worker: int) -> None:
                for n in range(25):
                    name = f"order-{worker}-{n}-end"
                    found[name] = await sender.place(order(name))

            await asyncio.gather(*(some(worker) for worker in range(8)))
            assert len(found) == 200
            assert {type(evidence) for evidence in found.values()} >= {Answered, Sent}
            raw = server.received
            for name, evidence in found.items():
                times = raw.count(order(name))
                assert times <= 1, f"{name} was sent {times} times"
                if isinstance(evidence, NotSent):
                    assert times == 0, f"{name} was said to be unsent"
                if isinstance(evidence, Answered):
                    assert times == 1
                    assert evidence.body == order(name)
            assert raw.count(b"POST ") <= 200

    run(main())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(raw=mutated(), places=st.lists(st.floats(0, 1), max_size=6))
def test_no_mutated_answer_is_taken_for_more_than_it_is(raw: bytes, places: list[float]) -> None:
    """As `test_response` does it, but through the sockets; and the order after it gets its own answer."""

    async def main() -> None:
        async def script(peer: Peer) -> None:
            request = await peer.request()
            await peer.send(*(cut(raw, places) if peer.number == 0 else [echo(request)]))
            peer.finish()
            await peer.read_to_end()

        async with against(script) as (sender, server):
            found = await sender.place(order("first"))
            judged = strict.read(raw, sender.settings.max_response_bytes)
            if isinstance(found, Answered):
                assert judged is not None, "accepted what a strict reading refuses"
                assert (found.status, found.body) == (judged.status, judged.body)
            else:
                assert isinstance(found, Sent)
                assert found.reason == "broken"
            # What is still on its way could not be told from an answer to a request that is already written.
            await until(lambda: not sender.transport._open)
            assert await sender.place(order("second")) == Answered(status=201, body=order("second"))
            assert server.received.count(order("first")) == 1

    run(main())
