"""The endpoints for tests, under `/sandbox/`. They need no key, take no place in a limit and are not logged."""

import base64
import json
from typing import Any, cast, get_args

from gateway.sandbox.answers import Response, json_response, nest_error
from gateway.sandbox.connection import Hub
from gateway.sandbox.faults import read_fault
from gateway.sandbox.records import ConnectionLog, Moment, Order, Request
from gateway.sandbox.state import KeyState
from gateway.sandbox.validation import read_json


def _times(name: str, moment: Moment | None) -> dict[str, int | None]:
    return {
        f"{name}WallMs": None if moment is None else moment.wall_ms,
        f"{name}MonotonicNs": None if moment is None else moment.monotonic_ns,
    }


def _parsed(body: bytes) -> Any:
    try:
        return read_json(body)
    except ValueError:
        return None


def _answer(request: Request) -> dict[str, Any] | None:
    if request.answer is None:
        return None
    return {"status": request.answer.status, "body": request.answer.body.decode("utf-8", "replace")}


def show_call(request: Request) -> dict[str, Any]:
    body = _parsed(request.body)
    return {
        "key": request.key,
        "method": request.method,
        "target": request.target,
        **_times("received", request.received),
        **_times("counted", request.counted),
        "connection": request.connection,
        "request": request.number,
        "complete": request.complete,
        "allowed": request.allowed,
        "fault": request.fault,
        "orderId": None if request.order is None else request.order.order_id,
        "metadata": body.get("metadata") if isinstance(body, dict) else None,
        "response": _answer(request),
    }


def show_order(order: Order) -> dict[str, Any]:
    request = order.request
    return {
        "orderId": order.order_id,
        "account": order.account,
        "key": request.key,
        "status": order.status,
        "items": order.items,
        "createdAt": order.created_at,
        "headers": request.headers,
        "rawBody": request.body.decode("utf-8", "replace"),
        "rawBodyBase64": base64.b64encode(request.body).decode(),
        "metadata": order.metadata,
        **_times("received", request.received),
        **_times("placed", order.placed),
        "connection": request.connection,
        "request": request.number,
        "fault": request.fault,
        "response": _answer(request),
    }


def show_connection(log: ConnectionLog) -> dict[str, Any]:
    return {
        "connection": log.number,
        "peer": log.peer,
        **_times("opened", log.opened),
        **_times("closed", log.closed),
        "closedBy": log.closed_by,
        "requests": log.requests,
        "bytesIn": log.bytes_in,
        "bytesOut": log.bytes_out,
        "chunks": [
            {
                "direction": chunk.direction,
                "wallMs": chunk.moment.wall_ms,
                "monotonicNs": chunk.moment.monotonic_ns,
                "size": chunk.size,
                "base64": None if chunk.data is None else base64.b64encode(chunk.data).decode(),
            }
            for chunk in log.chunks
        ],
    }


def answer_control(hub: Hub, request: Request) -> Response:
    return _Control(hub).answer(request)


class _Control:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def answer(self, request: Request) -> Response:
        state, faults = self._hub.state, self._hub.faults
        match (request.method, *request.path.split("/")[2:]):
            case ("GET", "orders"):
                return json_response(200, [show_order(order) for order in state.orders.values()])
            case ("DELETE", "orders"):
                self._hub.cancel_timers()
                state.reset()
                return Response(status=204)
            case ("GET", "connections"):
                return json_response(200, [show_connection(log) for log in state.connections if not log.control])
            case ("GET", "calls"):
                return self._calls()
            case ("GET", "faults"):
                return json_response(200, faults.remaining())
            case ("DELETE", "faults"):
                faults.clear()
                return Response(status=204)
            case ("POST" | "PATCH", *_):
                return self._change(request)
        return nest_error(404, f"Cannot {request.method} {request.path}")

    def _calls(self) -> Response:
        by_key: dict[str, list[dict[str, Any]]] = {}
        for request in self._hub.state.calls:
            by_key.setdefault(request.key, []).append(show_call(request))
        return json_response(200, by_key)

    def _change(self, request: Request) -> Response:
        try:
            given = json.loads(request.body)
            match (request.method, *request.path.split("/")[2:]):
                case ("POST", "faults"):
                    self._hub.faults.add(read_fault(given))
                    return json_response(201, self._hub.faults.remaining())
                case ("POST", "keys"):
                    return self._put_key(given)
                case ("PATCH", "orders", order_id):
                    return self._move(self._hub.state.orders.get(order_id), given)
        except (ValueError, RecursionError) as error:
            return nest_error(400, str(error))
        return nest_error(404, f"Cannot {request.method} {request.path}")

    def _put_key(self, given: Any) -> Response:
        """`{"key", "state", "account"}`: from now on this key is in that state and of that account."""
        members = given if isinstance(given, dict) else {}
        key, state, account = members.get("key"), members.get("state", "accepted"), members.get("account")
        if not isinstance(key, str) or state not in get_args(KeyState) or not isinstance(account, str | None):
            allowed = ", ".join(get_args(KeyState))
            raise ValueError(f"give key (a string), state (one of {allowed}) and account (a string, optional)")
        self._hub.state.keys.put(key, state=cast(KeyState, state), account=account)
        return Response(status=204)

    def _move(self, order: Order | None, given: Any) -> Response:
        """`{"status"}`: the order is now in that status, as if its provider had gone on."""
        if order is None:
            return nest_error(404, "Order not found")
        status = given.get("status") if isinstance(given, dict) else None
        if not isinstance(status, str):
            raise ValueError("give status (a string)")
        order.status = status
        return json_response(200, show_order(order))
