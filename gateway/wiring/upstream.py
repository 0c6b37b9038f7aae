"""OfferGrid as the settings say that it is reached."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.clock import Clock
from gateway.settings import Settings
from gateway.upstream.dialing import tls_context
from gateway.upstream.operations import OfferGrid
from gateway.upstream.transport import TransportOptions, UpstreamTransport


@asynccontextmanager
async def open_upstream(settings: Settings, clock: Clock) -> AsyncIterator[OfferGrid]:
    """OfferGrid, until the block is left; then every connection is closed."""
    upstream = settings.upstream
    options = TransportOptions(
        base_url=upstream.base_url,
        connect_timeout_s=upstream.connect_timeout_s,
        keepalive_idle_s=upstream.keepalive_idle_s,
        max_response_bytes=upstream.max_response_bytes,
        max_idle_connections=upstream.max_in_flight,
        ssl_context=tls_context() if upstream.base_url.startswith("https://") else None,
    )
    transport = UpstreamTransport(options, clock)
    try:
        yield OfferGrid(transport, upstream.base_url, max_listing_bytes=upstream.max_listing_bytes)
    finally:
        await transport.aclose()
