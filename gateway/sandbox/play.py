"""How each fault is played on a connection. The `list_…` kinds are played in `listing.py`, floods in `floods.py`.

A player gets the request when it is whole (for `reset_after_headers` and `stop_reading`: when its headers are).
`act` is what OfferGrid would have done: an order that is acted on is placed.
"""
# ruff: noqa: ARG001  every player is called in the same way

import asyncio
import base64
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

from gateway.sandbox import floods
from gateway.sandbox.answers import HTML_TYPE, JSON_TYPE, Response, encode, json_response, nest_error
from gateway.sandbox.connection import Connection
from gateway.sandbox.faults import Fault
from gateway.sandbox.records import Request

_GARBAGE = b"\x16\x03\x01\x00\xa5 this is no HTTP \xff\xfe\r\n\r\n"
_EARLY: Final[Mapping[str, object]] = {
    "orderId": "ord-early-0000",
    "items": [],
    "createdAt": "2025-01-02T10:00:00.000Z",
}
_MESSAGES: Final[Mapping[int, str]] = MappingProxyType(
    {401: "Unauthorized - invalid API key", 429: "Too many requests", 500: "Internal server error"}
)


def _act(conn: Connection, request: Request) -> Response:
    return conn.hub.answer(request, None)


def _act_if(conn: Connection, request: Request, fault: Fault, *, default: bool) -> Response | None:
    place = default if fault.place is None else fault.place
    return _act(conn, request) if place else None


def _given_body(fault: Fault, request: Request, default: bytes) -> bytes:
    """The fault's own body, `{orderId}` in it replaced by the id of the order just placed, or `default`."""
    if fault.body_base64 is not None:
        body = base64.b64decode(fault.body_base64)
    elif isinstance(fault.body, str):
        body = fault.body.encode("utf-8", "surrogatepass")
    elif fault.body is not None:
        body = encode(fault.body)
    else:
        return default
    order_id = "" if request.order is None else request.order.order_id
    return body.replace(b"{orderId}", order_id.encode())


def _coded(fault: Fault, request: Request, code: int) -> Response:
    """The answer that `status` and `status_then_place` give."""
    default = nest_error(code, _MESSAGES.get(code, "Sandbox fault")).body
    extra = () if fault.retry_after is None else (("Retry-After", str(fault.retry_after)),)
    return Response(
        status=code,
        body=_given_body(fault, request, default),
        content_type=JSON_TYPE if fault.content_type is None else fault.content_type or None,
        headers=extra,
    )


def _seconds(given: float | None, default: float) -> float:
    return default if given is None else given


async def _reset(conn: Connection, request: Request, fault: Fault) -> None:
    conn.reset()


async def _stop_reading(conn: Connection, request: Request, fault: Fault) -> None:
    conn.stop_reading()
    await asyncio.Event().wait()


async def _slow(conn: Connection, request: Request, fault: Fault) -> None:
    response = _act(conn, request)
    with suppress(TimeoutError):
        await asyncio.wait_for(conn.hub.faults.cleared.wait(), _seconds(fault.after_s, 1))
    conn.reply(request, response)


async def _place_then_reset(conn: Connection, request: Request, fault: Fault) -> None:
    _act(conn, request)
    conn.reset()


async def _place_then_hang(conn: Connection, request: Request, fault: Fault) -> None:
    _act(conn, request)
    await asyncio.Event().wait()  # ends when the connection is lost: the task is cancelled then


async def _place_then_500(conn: Connection, request: Request, fault: Fault) -> None:
    _act(conn, request)
    conn.reply(request, nest_error(500, "Internal server error"))


async def _place_late(conn: Connection, request: Request, fault: Fault) -> None:
    conn.hub.later(_seconds(fault.after_s, 1), lambda: _act(conn, request))
    conn.reset()


async def _status_then_place(conn: Connection, request: Request, fault: Fault) -> None:
    conn.reply(request, _coded(fault, request, 500 if fault.code is None else fault.code))
    if fault.after_s:
        conn.hub.later(fault.after_s, lambda: _act(conn, request))
    else:
        _act(conn, request)


async def _status(conn: Connection, request: Request, fault: Fault) -> None:
    _act_if(conn, request, fault, default=False)
    conn.reply(request, _coded(fault, request, 503 if fault.code is None else fault.code))


async def _truncate(conn: Connection, request: Request, fault: Fault) -> None:
    response = _act_if(conn, request, fault, default=True) or json_response(201, _EARLY)
    whole = conn.bytes_of(request, response)
    head = len(whole) - len(response.body)
    sent = len(response.body) // 2 if fault.size is None else min(fault.size, len(response.body) - 1)
    conn.write(whole[: head + sent])
    conn.close()


async def _wrong_length(conn: Connection, request: Request, fault: Fault) -> None:
    response = _act_if(conn, request, fault, default=True) or json_response(201, _EARLY)
    missing = min(10 if fault.size is None else fault.size, len(response.body))
    told = response.body[: len(response.body) - missing]
    short = Response(status=response.status, body=told, headers=response.headers)
    conn.write(conn.bytes_of(request, short) + response.body[len(told) :])


async def _garbage(conn: Connection, request: Request, fault: Fault) -> None:
    _act_if(conn, request, fault, default=True)
    conn.write(_given_body(fault, request, _GARBAGE))
    if fault.close is not False:
        conn.close()


async def _extra_bytes(conn: Connection, request: Request, fault: Fault) -> None:
    extra = floods.rendered(json_response(201, _EARLY), conn.idle_s)
    conn.write(conn.bytes_of(request, _act(conn, request)) + _given_body(fault, request, extra))


async def _early_answer(conn: Connection, request: Request, fault: Fault) -> None:
    early = _given_body(fault, request, floods.rendered(json_response(201, _EARLY), conn.idle_s))
    if fault.where == "accept":
        conn.write(early)
        return
    conn.reply(request, _act(conn, request))
    conn.hub.later(_seconds(fault.after_s, 0.05), lambda: conn.write(early) if conn.is_idle else None)


async def _idle_close(conn: Connection, request: Request, fault: Fault) -> None:
    conn.idle_s = _seconds(fault.after_s, 0)
    response = _act(conn, request)
    request.answer = response
    # Nothing in the answer gives away how soon the connection ends.
    conn.write(floods.rendered(response, conn.hub.idle_s))


async def _html(conn: Connection, request: Request, fault: Fault) -> None:
    _act_if(conn, request, fault, default=False)
    code = 404 if fault.code is None else fault.code
    page = f"<html><head><title>{code}</title></head><body><h1>{code}</h1><hr>nginx</body></html>\r\n"
    conn.reply(request, Response(status=code, body=page.encode(), content_type=HTML_TYPE))


async def _echo_key(conn: Connection, request: Request, fault: Fault) -> None:
    _act_if(conn, request, fault, default=False)
    code, key = 400 if fault.code is None else fault.code, request.key
    body = {
        "statusCode": code,
        "message": f"The call with x-api-key {key} was refused",
        "error": "Bad Request",
        "request": {"headers": {"x-api-key": key}},
    }
    conn.reply(request, json_response(code, body, ("X-Echo-Api-Key", key)))


async def _redirect(conn: Connection, request: Request, fault: Fault) -> None:
    _act_if(conn, request, fault, default=False)
    location = "http://127.0.0.1:9/elsewhere" if fault.location is None else fault.location
    code = 302 if fault.code is None else fault.code
    conn.reply(request, Response(status=code, body=b"", content_type=None, headers=(("Location", location),)))


async def _trickle(conn: Connection, request: Request, fault: Fault) -> None:
    await floods.trickle(conn, request, fault, _act(conn, request))


async def _huge(conn: Connection, request: Request, fault: Fault) -> None:
    _act_if(conn, request, fault, default=True)
    await floods.huge(conn, request, fault)


async def _gzip_bomb(conn: Connection, request: Request, fault: Fault) -> None:
    _act_if(conn, request, fault, default=True)
    await floods.gzip_bomb(conn, request, fault)


async def _informational(conn: Connection, request: Request, fault: Fault) -> None:
    await floods.informational(conn, fault)
    conn.reply(request, _act(conn, request))


_PLAYERS: Final[Mapping[str, Callable[[Connection, Request, Fault], Coroutine[Any, Any, None]]]] = MappingProxyType(
    {
        "reset_after_headers": _reset,
        "reset_after_read": _reset,
        "stop_reading": _stop_reading,
        "slow": _slow,
        "place_then_reset": _place_then_reset,
        "place_then_hang": _place_then_hang,
        "place_then_500": _place_then_500,
        "place_late": _place_late,
        "status_then_place": _status_then_place,
        "truncate": _truncate,
        "wrong_length": _wrong_length,
        "garbage": _garbage,
        "extra_bytes": _extra_bytes,
        "early_answer": _early_answer,
        "idle_close": _idle_close,
        "trickle": _trickle,
        "huge": _huge,
        "gzip_bomb": _gzip_bomb,
        "1xx_flood": _informational,
        "html_4xx": _html,
        "echo_key": _echo_key,
        "status": _status,
        "redirect": _redirect,
    }
)


async def play(conn: Connection, request: Request, fault: Fault) -> None:
    """Plays one fault to its end; a task of its own that is cancelled when the connection is lost."""
    await _PLAYERS[fault.kind](conn, request, fault)
