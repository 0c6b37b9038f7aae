"""Reading a request for an order: headers that must have one reading, and a body with a limit on size and time."""

import asyncio
import re
from typing import Final

from gateway.errors import BadRequest, BodyTooLarge, NotAcceptable, RequestTimeout, UnsupportedMediaType
from gateway.web.context import Scope
from gateway.web.edge import Receive
from gateway.web.framing import CLOSE

MAX_KEY_CHARS: Final = 255
_VISIBLE: Final = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_QUOTED: Final = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"', re.ASCII)
_WAIT: Final = re.compile(r'wait\s*=\s*"?(\d{1,9})"?', re.ASCII | re.IGNORECASE)
MAX_WAIT_S: Final = 30
_JSON_TYPES: Final = frozenset({"*/*", "application/*", "application/json"})


class TenantGone(Exception):
    """The tenant hung up before its request was whole. There is nobody to answer."""


def idempotency_key(scope: Scope) -> str | None:
    """The `Idempotency-Key` without its quotes, or None; BadRequest for anything that is not exactly one key."""
    found = [value for name, value in scope["headers"] if name == b"idempotency-key"]
    if not found:
        return None
    if len(found) > 1:
        raise BadRequest("There may be one Idempotency-Key header.")
    text: str = found[0].decode("latin-1")
    if text.startswith('"'):
        quoted = _QUOTED.fullmatch(text)
        text = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    if not _VISIBLE.fullmatch(text):
        raise BadRequest(f"An Idempotency-Key has 1 to {MAX_KEY_CHARS} visible ASCII characters.")
    return text


def preferred_wait_s(scope: Scope) -> float | None:
    """`Prefer: wait=N` (RFC 7240) in seconds, 30 at most; None where it is not asked for, or not understood."""
    text = b",".join(value for name, value in scope["headers"] if name == b"prefer").decode("latin-1")
    for preference in text.split(","):
        found = _WAIT.fullmatch(preference.partition(";")[0].strip())
        if found:
            return float(min(int(found[1]), MAX_WAIT_S))
    return None


def require_json(scope: Scope) -> None:
    """The body is JSON in UTF-8, not encoded; and JSON is accepted back."""
    headers = scope["headers"]
    if any(name == b"content-encoding" for name, _ in headers):
        raise UnsupportedMediaType("The body must not be encoded.")
    types = [value.decode("latin-1") for name, value in headers if name == b"content-type"]
    if len(types) != 1 or not _is_json(types[0]):
        raise UnsupportedMediaType("The body must be application/json in UTF-8.")
    accepted = b",".join(value for name, value in headers if name == b"accept").decode("latin-1")
    if accepted and not any(_accepts_json(item) for item in accepted.split(",")):
        raise NotAcceptable("Answers are application/json or application/problem+json.")


async def read_body(scope: Scope, receive: Receive, *, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body. Refused as soon as it is known to be too long, declared or sent."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and (len(value) > 18 or int(value) > max_bytes):
            raise BodyTooLarge(f"The body may have {max_bytes} bytes.")
    parts: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(timeout_s):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise TenantGone
                part: bytes = message.get("body", b"")
                size += len(part)
                if size > max_bytes:
                    raise BodyTooLarge(f"The body may have {max_bytes} bytes.")
                parts.append(part)
                more = message.get("more_body", False)
    except TimeoutError as fault:
        # What may still come of this body must not be taken for the next request's beginning.
        raise RequestTimeout(f"The body did not arrive within {timeout_s:g} s.", headers=CLOSE) from fault
    return b"".join(parts)


async def until_gone(receive: Receive) -> None:
    """Returns when the tenant has hung up. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _is_json(content_type: str) -> bool:
    media, *parameters = (part.strip().lower() for part in content_type.split(";"))
    utf8 = all(part.replace('"', "") in ("charset=utf-8", "charset=utf8", "") for part in parameters)
    return media == "application/json" and utf8


def _accepts_json(item: str) -> bool:
    media, *parameters = (part.strip().lower() for part in item.split(";"))
    refused = any(re.fullmatch(r"q=0(\.0*)?", part) for part in parameters)
    return media in _JSON_TYPES and not refused
