"""Opens a connection to OfferGrid. Whatever fails in here, no byte of a request has been written."""

import asyncio
import socket
import ssl

from gateway.core.evidence import NotSentReason
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.failure import not_sent


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Certificates and names are checked; `ca_file` (PEM) takes the place of the system's roots."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cafile=ca_file)
    return context


async def dial(
    connection: UpstreamConnection, host: str, port: int, tls: ssl.SSLContext | None, timeout_s: float
) -> None:
    """Connect `connection`, TLS handshake included, trying each address of `host` in turn within `timeout_s`.

    Raises `AttemptFailed(NotSent)`.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            await loop.create_connection(
                lambda: connection, host, port, ssl=tls, server_hostname=host if tls is not None else None
            )
    except TimeoutError as error:
        # The kernel's own timeout is one as well, with an errno.
        raise not_sent("connect_timeout", "not connected in time") from error
    except Exception as error:
        # Whatever it is, nothing can have been written yet.
        raise not_sent(_reason(error), f"{type(error).__name__}: {error}") from error


def _reason(error: Exception) -> NotSentReason:
    match error:
        case socket.gaierror() | UnicodeError():
            return "unresolvable"
        case ssl.SSLError():
            return "tls"
        case OSError():
            return "connect_refused"
        case _:
            return "no_connection"
