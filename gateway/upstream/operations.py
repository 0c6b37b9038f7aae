"""What Ordergate asks of OfferGrid, and the one place where everything that can happen becomes evidence."""

from collections.abc import Callable
from typing import Final, cast
from urllib.parse import quote

import httpx

from gateway import __version__
from gateway.core.evidence import Answered, Evidence, NotSent, Sent
from gateway.upstream.transport import AttemptFailed, RevealsKey
from generated.operations import LIST, PLACE, SHOW, SPEC_DIGEST

__all__ = ["SPEC_DIGEST", "OfferGrid"]

_MAX_PAGE_URL: Final = 4_096


class OfferGrid:
    """OfferGrid behind any httpx transport. No call raises anything but a cancellation.

    `base_url` may have a path, which goes before each operation's own. A list of orders may be `max_listing_bytes`
    long; every other answer is limited by the transport's own options.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, base_url: str, *, max_listing_bytes: int) -> None:
        self._transport = transport
        self._max_listing_bytes = max_listing_bytes
        self._base = base = base_url.rstrip("/")
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

    async def list_orders(
        self, *, key: RevealsKey, deadline: float, page: str | None = None, spent_bytes: int = 0
    ) -> Evidence:
        """The orders of the key's team, one attempt: a harmless read. `deadline` is monotonic.

        What comes back whole is not looked into: it may be one page of many, or no list at all. `page` is the URL of a
        further page as the one before it wrote it; one that is not of this list is not asked for. `spent_bytes` were
        in the pages before: all together may be `max_listing_bytes` long.
        """
        url = self._list_url if page is None else self._page_url(page)
        if url is None:
            return NotSent(reason="defect", detail="the next page is not of this list")
        extensions = {
            "ordergate.deadline": deadline,
            "ordergate.key": key,
            "ordergate.max_response_bytes": max(0, self._max_listing_bytes - spent_bytes),
        }
        stream = httpx.ByteStream(b"")
        request = httpx.Request(LIST.method, url, headers=self._read_headers, stream=stream, extensions=extensions)
        return await self._attempt(request)

    def _page_url(self, page: str) -> httpx.URL | None:
        """The page's address, where it differs from the list's own in its query alone."""
        if len(page) > _MAX_PAGE_URL:
            return None
        try:
            url = self._list_url.join(page)
        except (httpx.InvalidURL, ValueError):
            return None
        own = self._list_url
        same = (url.raw_scheme, url.raw_host, url.port, url.userinfo, url.raw_path.partition(b"?")[0]) == (
            own.raw_scheme, own.raw_host, own.port, own.userinfo, own.raw_path,
        )  # fmt: skip
        return url.copy_with(fragment=None) if same else None

    async def show_order(self, upstream_order_id: str, *, key: RevealsKey, deadline: float) -> Evidence:
        """One order of the key's team, one attempt: a harmless read. `deadline` is monotonic."""
        extensions = {"ordergate.deadline": deadline, "ordergate.key": key}
        url = httpx.URL(self._base + SHOW.path.replace("{id}", quote(upstream_order_id, safe="")))
        stream = httpx.ByteStream(b"")
        request = httpx.Request(SHOW.method, url, headers=self._read_headers, stream=stream, extensions=extensions)
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
