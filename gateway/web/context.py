"""What the edge knows of a request, and what every answer carries."""

import re
from typing import Any, Final

import msgspec

from gateway.clock import Clock
from gateway.telemetry.metrics import OrderTimes

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")

Scope = dict[str, Any]


class RequestContext(msgspec.Struct, kw_only=True):
    """One request. `trace_id` is the caller's where it was well-formed; `span_id` is the gateway's own.

    `began` is monotonic, `received_ms` is wall time. `times` is filled in while an order is placed.
    """

    request_id: str
    trace_id: str
    span_id: str
    flags: str
    began: float
    received_ms: int
    times: OrderTimes
    tenant: str | None = None
    order_id: str | None = None
    outcome: str | None = None

    @property
    def traceparent(self) -> str:
        """Names this gateway's part of the trace: what OfferGrid gets as its parent, and what the tenant sees."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def begin(headers: list[tuple[bytes, bytes]], clock: Clock) -> RequestContext:
    """The context of a request: its own ids where they are well-formed and given once, fresh ones elsewhere."""
    trace_id, flags = "", "01"
    parents = [value for name, value in headers if name == b"traceparent"]
    if len(parents) == 1 and (found := _TRACEPARENT.fullmatch(parents[0])):
        trace, parent, flag = (part.decode("ascii") for part in found.groups())
        if set(trace) != {"0"} and set(parent) != {"0"}:
            trace_id, flags = trace, flag
    ids = [value for name, value in headers if name == b"x-request-id"]
    own = len(ids) == 1 and _REQUEST_ID.fullmatch(ids[0])
    random = clock.random_bytes(40)
    return RequestContext(
        request_id=ids[0].decode("ascii") if own else random[:16].hex(),
        trace_id=trace_id or random[16:32].hex(),
        span_id=random[32:].hex(),
        flags=flags,
        began=clock.monotonic(),
        received_ms=clock.wall_ms(),
        times=OrderTimes(),
    )


def context_of(scope: Any) -> RequestContext:
    """The context that the edge put into the ASGI scope."""
    found: RequestContext = scope["ordergate"]
    return found
