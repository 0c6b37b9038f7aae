"""No order is on the wire twice, goes elsewhere, or gets an answer that is not its own, whatever the server does."""

import asyncio
import random

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.evidence import Answered, NotSent, Sent
from gateway.upstream import transport as transport_module
from tests.upstream import strict
from tests.upstream.mutations import cut, mutated
from tests.upstream.scripts import answering, echo, order
from tests.upstream.wire import OK, WHOLE, Peer, PlainKey, against, run, serving, until


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


def test_redirect_to_the_same_origin_is_not_followed_either() -> None:
    async def main() -> None:
        raw = b"HTTP/1.1 307 Moved\r\nlocation: /reseller/orders?again\r\ncontent-length: 0\r\n\r\n"
        async with against(answering(raw, then="serve")) as (sender, server):
            assert await sender.place() == Answered(status=307, body=b"")
            assert [bytes(peer.received).count(b"HTTP/1.1\r\n") for peer in server.peers] == [1]

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
