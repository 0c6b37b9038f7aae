"""`POST /orders`: from a request to an order's flow, and from its answer to the wire. The hot route.

A bare ASGI handler: it costs half of what a full one does, and reads as what it is.
"""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Final

import msgspec
import msgspec.inspect

from gateway.clock import Clock
from gateway.core.directory import Tenant
from gateway.core.enrich import metadata_size_fault, reserved_faults
from gateway.core.faults import MAX_FAULTS, Fault, faults_of
from gateway.core.json_text import JsonObject, canonical_json, read_object
from gateway.core.problems import MEDIA_TYPE, document
from gateway.errors import (
    IdempotencyKeyRequired,
    InvalidOrder,
    Overloaded,
    Problem,
    ReservedMetadata,
)
from gateway.flow.answer import Answer, problem_answer
from gateway.flow.known import RETRY_SOON_S
from gateway.flow.place_order import OrderFlow
from gateway.flow.ports import OrderRequest
from gateway.telemetry.metrics import Metrics
from gateway.web.auth import Authenticator, require_active
from gateway.web.context import RequestContext, Scope, context_of
from gateway.web.edge import Receive, Send, send_whole
from gateway.web.request import TenantGone, idempotency_key, preferred_wait_s, read_body, require_json, until_gone
from generated.operations import PLACE

LARGE_BODY_BYTES: Final = 16_384
"""A body of this size can take some 20 ms to read, which no other tenant should wait for."""

_ORDER: Final = msgspec.inspect.type_info(PLACE.request_model)
_DECODER: Final = msgspec.json.Decoder(PLACE.request_model)


class OrderEndpoint:
    """Takes orders at `POST /orders`, and at OfferGrid's own path for clients that were made for it."""

    def __init__(
        self,
        *,
        flow: OrderFlow,
        authenticator: Authenticator,
        metrics: Metrics,
        clock: Clock,
        max_body_bytes: int,
        body_timeout_s: float,
    ) -> None:
        self._flow = flow
        self._authenticator = authenticator
        self._metrics = metrics
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = context_of(scope)
        tenant = self._authenticator.tenant(scope)
        try:
            answer = await self._answer(tenant, context, scope, receive)
        except TenantGone:  # before there was an order; nobody is there to answer
            return
        except Overloaded as problem:
            answer = problem_answer(
                problem, request_id=context.request_id, outcome="not_placed", retry_s=RETRY_SOON_S
            )
        except Problem as problem:
            answer = _refusal(problem, context)
        context.order_id, context.outcome = answer.order_id, answer.outcome
        await _send_answer(answer, send)
        seconds = self._clock.monotonic() - context.began
        self._metrics.order(tenant, answer.outcome, seconds, context.times)

    async def _answer(self, tenant: Tenant, context: RequestContext, scope: Scope, receive: Receive) -> Answer:
        require_active(tenant)
        require_json(scope)
        key = idempotency_key(scope)
        raw = await read_body(scope, receive, max_bytes=self._max_body_bytes, timeout_s=self._body_timeout_s)
        body, content = await _checked(raw, self._body_timeout_s)
        if key is None and tenant.require_idempotency_key:
            raise IdempotencyKeyRequired("Send an Idempotency-Key header with each order.")
        request = OrderRequest(
            tenant=tenant,
            body=body,
            content=content,
            idempotency_key=key,
            request_id=context.request_id,
            traceparent=context.traceparent,
            received_ms=context.received_ms,
            hung_up=lambda: until_gone(receive),
            wait_s=preferred_wait_s(scope),
        )
        return await self._flow.place(request, context.times)


async def _checked(raw: bytes, within_s: float) -> tuple[JsonObject, bytes]:
    """The body as a valid order, and its canonical JSON. A large one is read beside the event loop.

    Raises Overloaded where no thread is free for it in time.
    """
    if len(raw) <= LARGE_BODY_BYTES:
        return _read(raw)
    try:
        async with asyncio.timeout(within_s):
            return await asyncio.to_thread(_read, raw)
    except TimeoutError:
        raise Overloaded("No thread was free in time to read so large a body.") from None


def _read(raw: bytes) -> tuple[JsonObject, bytes]:
    body = checked(raw)
    return body, canonical_json(body.values())


def checked(raw: bytes) -> JsonObject:
    """The body as a valid order, or the problem that names all its faults."""
    body = read_object(raw)
    faults = list(_schema_faults(raw, body))
    size_fault = metadata_size_fault(body)
    if size_fault is not None:
        faults.append(size_fault)
    reserved = [] if size_fault else list(reserved_faults(body))
    if faults:
        raise InvalidOrder("The body breaks OfferGrid's schema.", errors=_listed([*faults, *reserved]))
    if reserved:
        raise ReservedMetadata("Choose other names for these members.", errors=_listed(reserved))
    return body


def _schema_faults(raw: bytes, body: JsonObject) -> Iterator[Fault]:
    """msgspec's decoder says yes quickly; only a no is walked for all its reasons.

    A no without a reason is about a number that no float holds, in a member that may hold anything: such a number
    passes through as it is spelled, so the values are looked at once more with numbers left as text.
    """
    try:
        _DECODER.decode(raw)
    except msgspec.DecodeError:
        values = body.values()
        found = list(itertools.islice(faults_of(values, _ORDER), MAX_FAULTS))
        yield from found
        if not found:
            try:
                msgspec.convert(values, PLACE.request_model)
            except msgspec.ValidationError as fault:
                yield Fault("", str(fault))


def _listed(faults: list[Fault]) -> tuple[tuple[str, str], ...]:
    return tuple((fault.pointer, fault.detail) for fault in faults[:MAX_FAULTS])


def _refusal(problem: Problem, context: RequestContext) -> Answer:
    """What was refused before it had an outcome."""
    return Answer(
        status=problem.status,
        body=document(problem, request_id=context.request_id),
        content_type=MEDIA_TYPE,
        outcome="invalid",
        headers=problem.headers,
    )


async def _send_answer(answer: Answer, send: Send) -> None:
    headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in answer.headers]
    if answer.order_id is not None:
        order_id = answer.order_id.encode("ascii")
        headers += [(b"ordergate-order-id", order_id), (b"location", b"/orders/" + order_id)]
    await send_whole(answer.status, answer.body, answer.content_type, headers, send)
