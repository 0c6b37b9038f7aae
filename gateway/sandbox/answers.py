"""Answers as values, and the bytes they become. The header set is that of a NestJS service on Node."""

import json
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import msgspec

JSON_TYPE = "application/json; charset=utf-8"
HTML_TYPE = "text/html"


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """`content_type` None: no such header. `headers` are sent as they stand, after the usual ones."""

    status: int
    body: bytes = b""
    content_type: str | None = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()


def reason_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def encode(value: Any) -> bytes:
    """JSON as Node writes it: compact, UTF-8; a lone surrogate stays escaped, since UTF-8 has none."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def json_response(status: int, value: Any, *headers: tuple[str, str]) -> Response:
    return Response(status=status, body=encode(value), headers=headers)


def nest_error(status: int, message: str | list[str], *headers: tuple[str, str]) -> Response:
    """`{"statusCode", "message", "error"}`: the body of every NestJS HTTP exception."""
    body = {"statusCode": status, "message": message, "error": reason_phrase(status)}
    return json_response(status, body, *headers)


def has_no_body(status: int) -> bool:
    return status < 200 or status in {204, 304}


def head_lines(response: Response, *, length: int | None, keep_alive: bool, idle_s: float) -> bytes:
    """The status line and header section. `length` None: no content-length line."""
    lines = [f"HTTP/1.1 {response.status} {reason_phrase(response.status)}"]
    if response.content_type is not None and not has_no_body(response.status):
        lines.append(f"Content-Type: {response.content_type}")
    if length is not None:
        lines.append(f"Content-Length: {length}")
    lines.extend(f"{name}: {value}" for name, value in response.headers)
    lines.append(f"Date: {formatdate(usegmt=True)}")
    if keep_alive:
        lines.append("Connection: keep-alive")
        lines.append(f"Keep-Alive: timeout={max(1, int(idle_s))}")
    else:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def render(response: Response, *, keep_alive: bool, idle_s: float, head_only: bool = False) -> bytes:
    """The whole answer as bytes. `head_only`: for a HEAD request, the body is left out."""
    if has_no_body(response.status):
        return head_lines(response, length=None, keep_alive=keep_alive, idle_s=idle_s)
    head = head_lines(response, length=len(response.body), keep_alive=keep_alive, idle_s=idle_s)
    return head if head_only else head + response.body
