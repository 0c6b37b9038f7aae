"""What the edge knows of a request, and what every answer carries."""

import re
from typing import Any, Final

import msgspec

from gateway.clock import Clock
from gateway.telemetry.metrics import OrderTimes

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_KNOWN_FLAGS: Final = 0x03
"""Sampled, and "the trace id is random". The standard wants all others passed on as 0."""

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
    route: str | None = None
    tenant: str | None = None
    order_id: str | None = None
    outcome: str | None = None

    @property
    def traceparent(self) -> str:
        """Names this gateway's part of the trace: what OfferGrid gets as its parent, and what the tenant sees."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def begin(headers: list[tuple[bytes, bytes]], clock: Clock) -> RequestContext:
    """The context of a request: its own ids where they are well-formed and given once, fresh ones elsewhere."""
    parents = [value for name, value in headers if name == b"traceparent"]
    trace_id, flags = _continued(parents[0]) if len(parents) == 1 else ("", "01")
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


def _continued(parent: bytes) -> tuple[str, str]:
    """The trace and its flags; no trace where `parent` is malformed. Later versions begin as version 00 does."""
    found = _TRACEPARENT.fullmatch(parent)
    if found is None:
        return "", "01"
    version, trace, span, flags = (part.decode("ascii") for part in found.groups()[:4])
    malformed = version == "ff" or (version == "00" and found[5] is not None)
    if malformed or set(trace) == {"0"} or set(span) == {"0"}:
        return "", "01"
    return trace, f"{int(flags, 16) & _KNOWN_FLAGS:02x}"


def context_of(scope: Any) -> RequestContext:
    """The context that the edge put into the ASGI scope."""
    found: RequestContext = scope["ordergate"]
    return found
