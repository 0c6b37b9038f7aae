"""The ways in which the sandbox can misbehave, as data, and the box that holds those that were asked for.

How each kind is played at the socket is in `play.py`, `floods.py` and, for the `list_…` kinds, `listing.py`. A
fault applies to `POST /reseller/orders`, a `list_…` one to `GET /reseller/orders`, unless its `match` says
otherwise, and to `count` such requests (1; 0: until cleared). Requests to `/sandbox/…` are never hit. "Acts"
means: what OfferGrid would do is done, so a good order is placed; `place` says otherwise where a kind takes it.
Defaults in brackets.

refuse              at once: the port is closed for `after_s` (1), then opened again; `count`, `match` idle
reset_before_read   RST right after accept, or at the first byte on a kept connection; with `match`, only when the
                    first bytes show such a request
reset_after_headers RST when the headers are read · reset_after_read: when the body is, too. Neither acts
stop_reading        reads nothing after the headers and never answers; does not act
slow                acts, answers after `after_s` (1) or as soon as the faults are cleared
place_then_reset    acts, then RST · place_then_hang: acts, never answers · place_then_500: acts, answers 500
place_late          RST now, acts after `after_s` (1)
status_then_place   answers `code` (500), then acts, after `after_s` (0)
truncate            acts; only `size` bytes of the body (half) are sent, then FIN
wrong_length        acts; content-length is `size` (10) less than the body that follows
garbage             acts; sends the body given (bytes that are no HTTP) with nothing around it, then FIN, unless
                    `close` is false. An empty body: FIN without an answer
extra_bytes         acts; a correct answer, followed by the body given (a second 201)
early_answer        acts, answers, and `after_s` (0.05) later, if the connection is then idle, an answer that nobody
                    asked for; `where: accept`: that answer alone, as soon as the next connection is made
idle_close          acts, answers, FIN after `after_s` (0) without another request
trickle             acts; one byte of the answer (`where: body`: of its body) each `every_s` (1)
huge                acts; a 201 of `size` bytes (64 MiB); `where`: body, header or chunked
gzip_bomb           acts; a 201 that unpacks to `size` bytes (64 MiB)
1xx_flood           `size` (1000) interim responses, then acts and answers
html_4xx            an HTML page with `code` (404) · echo_key: `code` (400) with the key in body and header
status              `code` (503) with the body given · redirect: `code` (302) to `location`. These four do not act,
                    unless `place` is true
list_stale          leaves out orders younger than `after_s` (60)
list_page           the first `size` (10) orders; `marker`: the sign of more. link, next and cursor can be followed
list_without        leaves out the order with that `orderId`, those with that `metadata`, or the `index`-th (0, the
                    newest)
list_twice          shows it twice · list_drop_metadata: shows none · list_object: `{"data": […], "total": n}`
list_other_account  the orders of `account`; without one, none

`body` is a string, sent as UTF-8, or any JSON; `body_base64` is any bytes. `{orderId}` in either is replaced by the
id of the order just placed. `retry_after` is sent as given.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import msgspec

from gateway.sandbox.records import Request


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which requests a fault applies to; a member that is None fits any. `key` is the request's x-api-key."""

    method: str | None = None
    path_prefix: str | None = None
    key: str | None = None


Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One fault as asked for. `count` 0: until it is cleared. What each kind takes stands in `KINDS`."""

    kind: str
    count: Annotated[int, msgspec.Meta(ge=0)] = 1
    match: Match | None = None
    after_s: Seconds | None = None
    every_s: Seconds | None = None
    code: Annotated[int, msgspec.Meta(ge=100, le=999)] | None = None
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    body: str | dict[str, Any] | list[Any] | None = None
    body_base64: str | None = None
    content_type: str | None = None
    retry_after: str | int | float | None = None
    location: str | None = None
    where: str | None = None
    place: bool | None = None
    close: bool | None = None
    marker: Literal["none", "link", "next", "cursor", "hasMore", "total"] | None = None
    order_id: str | None = msgspec.field(default=None, name="orderId")
    index: Annotated[int, msgspec.Meta(ge=0)] | None = None
    metadata: dict[str, Any] | None = None
    account: str | None = None

    @property
    def is_listing(self) -> bool:
        return self.kind.startswith("list_")


_BODY = ("body", "body_base64")
# Each kind's own parameters, besides `kind`, `count` and `match`.
KINDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "refuse": ("after_s",),
        "reset_before_read": (),
        "reset_after_headers": (),
        "reset_after_read": (),
        "stop_reading": (),
        "slow": ("after_s",),
        "place_then_reset": (),
        "place_then_hang": (),
        "place_then_500": (),
        "place_late": ("after_s",),
        "status_then_place": ("code", "after_s", "content_type", "retry_after", *_BODY),
        "truncate": ("size", "place"),
        "wrong_length": ("size", "place"),
        "garbage": ("place", "close", *_BODY),
        "extra_bytes": _BODY,
        "early_answer": ("after_s", "where", *_BODY),
        "idle_close": ("after_s",),
        "trickle": ("every_s", "where"),
        "huge": ("size", "where", "place"),
        "gzip_bomb": ("size", "place"),
        "1xx_flood": ("size",),
        "html_4xx": ("code", "place"),
        "echo_key": ("code", "place"),
        "status": ("code", "content_type", "retry_after", "place", *_BODY),
        "redirect": ("code", "location", "place"),
        "list_stale": ("after_s",),
        "list_page": ("size", "marker"),
        "list_without": ("orderId", "index", "metadata"),
        "list_twice": ("orderId", "index", "metadata"),
        "list_drop_metadata": (),
        "list_other_account": ("account",),
        "list_object": (),
    }
)
WHERE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"early_answer": ("idle", "accept"), "trickle": ("answer", "body"), "huge": ("body", "header", "chunked")}
)
_COMMON = frozenset({"kind", "count", "match"})


def read_fault(given: Any) -> Fault:
    """`given` (a mapping from JSON) as a fault. Raises ValueError that says what is wrong and what is allowed."""
    if not isinstance(given, dict):
        raise ValueError("a fault is a JSON object with at least the member kind")
    kind = given.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; allowed kinds: {', '.join(KINDS)}")
    own = KINDS[kind]
    stray = sorted(set(given) - _COMMON - set(own))
    if stray:
        allowed = ", ".join(("count", "match", *own))
        raise ValueError(f"unknown member {', '.join(stray)} for kind {kind}; allowed members: {allowed}")
    try:
        fault = msgspec.convert(given, Fault)
    except msgspec.ValidationError as error:
        raise ValueError(f"{kind}: {error}") from error
    if fault.where is not None and fault.where not in WHERE[kind]:
        raise ValueError(f"{kind}: where must be one of {', '.join(WHERE[kind])}")
    if fault.body_base64 is not None:
        try:
            base64.b64decode(fault.body_base64, validate=True)
        except binascii.Error as error:
            raise ValueError(f"{kind}: body_base64: {error}") from error
    return fault


class _Armed:
    __slots__ = ("fault", "left")

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.left = fault.count

    def fits(self, method: str, target: str, key: str) -> bool:
        path = target.partition("?")[0]
        match = self.fault.match
        if match is None:
            wanted = "GET" if self.fault.is_listing else "POST"
            return method == wanted and path == "/reseller/orders"
        return (
            match.method in {None, method} and path.startswith(match.path_prefix or "") and match.key in {None, key}
        )


class FaultBox:
    """The faults that were set, first in, first played. Only a request that fits counts a fault down."""

    def __init__(self, refuse: Callable[[float], None]) -> None:
        self._refuse = refuse
        self._armed: list[_Armed] = []
        self.cleared = asyncio.Event()

    def add(self, fault: Fault) -> None:
        if fault.kind == "refuse":
            self._refuse(1.0 if fault.after_s is None else fault.after_s)
        else:
            self._armed.append(_Armed(fault))

    def clear(self) -> None:
        """Drops what was not played yet, and releases requests that `slow` holds back."""
        self._armed.clear()
        self.cleared.set()
        self.cleared = asyncio.Event()

    def remaining(self) -> list[dict[str, Any]]:
        """Each fault as it was set, with `remaining` (null: until cleared)."""
        return [
            {**msgspec.to_builtins(armed.fault), "remaining": armed.left or None if armed.fault.count else None}
            for armed in self._armed
        ]

    def _use(self, armed: _Armed) -> Fault:
        if armed.fault.count:
            armed.left -= 1
            if armed.left == 0:
                self._armed.remove(armed)
        return armed.fault

    def take(self, request: Request) -> Fault | None:
        """The fault to play for a request whose headers were read."""
        for armed in self._armed:
            fault = armed.fault
            if fault.kind == "reset_before_read" or fault.where == "accept":
                continue
            # A further page is part of the listing that a fault already shaped.
            if fault.is_listing and "cursor=" in request.query:
                continue
            if armed.fits(request.method, request.target, request.key):
                return self._use(armed)
        return None

    def take_at_accept(self) -> Fault | None:
        """The fault for a new connection. Nothing was read, so a `match` cannot be looked at here."""
        for armed in self._armed:
            fault = armed.fault
            if fault.where == "accept" or (fault.kind == "reset_before_read" and fault.match is None):
                return self._use(armed)
        return None

    def take_at_first_bytes(self, data: bytes) -> bool:
        """Whether `reset_before_read` cuts the request that begins with `data`. Never one to `/sandbox/…`."""
        for armed in self._armed:
            if armed.fault.kind != "reset_before_read":
                continue
            words = data.split(b"\r\n", 1)[0].split(b" ")
            method, target = words[0].decode("latin-1"), b"".join(words[1:2]).decode("latin-1")
            match = armed.fault.match
            key = match.key if match is not None and match.key and match.key.encode() in data else ""
            if target.startswith("/sandbox/"):
                continue
            if match is None or armed.fits(method, target, key or ""):
                self._use(armed)
                return True
        return False
