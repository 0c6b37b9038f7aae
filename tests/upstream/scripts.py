"""What a scripted server does with a connection."""

from tests.upstream.wire import Peer, Script


def answering(*pieces: bytes, then: str = "wait") -> Script:
    """Take a request, answer with these pieces, then `wait` for the end, `close`, `reset` or `serve` on."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(*pieces)
            if then == "close":
                peer.finish()
            elif then == "reset":
                return peer.reset()
            if then != "serve":
                return await peer.read_to_end()

    return script


def order(name: str) -> bytes:
    return b'{"name":"%b"}' % name.encode()


def echo(request: bytes) -> bytes:
    """An answer whose body is the request's own."""
    body = request.partition(b"\r\n\r\n")[2]
    return b"HTTP/1.1 201 Created\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def echoing(peer: Peer) -> None:
    while True:
        await peer.send(echo(await peer.request()))
