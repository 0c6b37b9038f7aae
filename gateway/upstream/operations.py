"""What Ordergate asks of OfferGrid, and the one place where everything that can happen becomes evidence."""

from collections.abc import Callable
from typing import cast

import httpx

from gateway import __version__
from gateway.core.evidence import Answered, Evidence, Sent
from gateway.upstream.transport import AttemptFailed, RevealsKey
from generated.operations import LIST, PLACE, SPEC_DIGEST

__all__ = ["SPEC_DIGEST", "OfferGrid"]


class OfferGrid:
    """OfferGrid behind any httpx transport. No call raises anything but a cancellation.

    `base_url` may have a path, which goes before each operation's own. A list of orders may be `max_listing_bytes`
    long; every other answer is limited by the transport's own options.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, base_url: str, *, max_listing_bytes: int) -> None:
        self._transport = transport
        self._max_listing_bytes = max_listing_bytes
        base = base_url.rstrip("/")
        self._place_url = httpx.URL(base + PLACE.path)
        self._list_url = httpx.URL(base + LIST.path)
        common = {
            "host": self._place_url.netloc.decode("ascii"),
            "user-agent": f"ordergate/{__version__}",
            "accept": "application/json",
            "accept-encoding": "identity",
        }
        self._read_headers = httpx.Headers(common)
        self._order_headers = httpx.Headers({**common, "content-type": "application/json"})

    async def place(
        self,
        body: bytes,
        *,
        request_id: str,
        traceparent: str,
        key: RevealsKey,
        deadline: float,
        may_send: Callable[[], bool],
    ) -> Evidence:
        """Place one order: one attempt, COSTS money. `deadline` is monotonic; `body` goes out byte for byte."""
        headers = httpx.Headers(self._order_headers)
        headers["x-request-id"] = request_id
        headers["traceparent"] = traceparent
        extensions = {"ordergate.deadline": deadline, "ordergate.key": key, "ordergate.may_send": may_send}
        stream = httpx.ByteStream(body)
        request = httpx.Request(
            PLACE.method, self._place_url, headers=headers, stream=stream, extensions=extensions
        )
        return await self._attempt(request)

    async def list_orders(self, *, key: RevealsKey, deadline: float) -> Evidence:
        """The orders of the key's team, one attempt: a harmless read. `deadline` is monotonic.

        What comes back whole is not looked into: it may be one page of many, or no list at all.
        """
        extensions = {
            "ordergate.deadline": deadline,
            "ordergate.key": key,
            "ordergate.max_response_bytes": self._max_listing_bytes,
        }
        stream = httpx.ByteStream(b"")
        request = httpx.Request(
            LIST.method, self._list_url, headers=self._read_headers, stream=stream, extensions=extensions
        )
        return await self._attempt(request)

    async def _attempt(self, request: httpx.Request) -> Evidence:
        """The boundary: what is not known for certain to be unsent counts as sent."""
        try:
            response = await self._transport.handle_async_request(request)
            # The stream itself is read, not `aread()`: nothing is ever decoded, and it costs a tenth.
            stream = cast(httpx.AsyncByteStream, response.stream)
            try:
                body = b"".join([part async for part in stream])
            finally:
                await stream.aclose()
        except AttemptFailed as failure:
            return failure.evidence
        except Exception as error:  # noqa: BLE001 - a foreign transport may raise anything, and may have sent it all
            return Sent(reason="broken", detail=type(error).__name__)
        lines = [(name.lower(), value.decode("latin-1")) for name, value in response.headers.raw]
        headers = dict(lines)
        links = [value for name, value in lines if name == b"link"]
        if headers.get(b"content-encoding", "").strip().lower() not in ("", "identity"):
            return Sent(reason="broken", detail="encoded")
        return Answered(
            status=response.status_code,
            body=body,
            content_type=headers.get(b"content-type", ""),
            retry_after=headers.get(b"retry-after"),
            link=", ".join(links) if links else None,
        )
