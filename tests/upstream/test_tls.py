"""TLS: an order goes to nobody but OfferGrid, and the key not even to the wire in the clear."""

import datetime
import select
import socket
import ssl
import threading

import pytest
import trustme

from gateway.core.evidence import NotSent
from gateway.upstream import transport as transport_module
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.dialing import dial, tls_context
from tests.upstream.scripts import answering
from tests.upstream.wire import KEY, OK, WHOLE, Peer, Sender, Settings, against, run

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
