"""What an operation of the admin listener is, and how one is asked: the same way for each of them.

Each is a row in a table (`admin_teams`, `admin_tenants`, `admin_orders`): where it is asked for, what with, what it
does at the desk and what it answers. The routes and the description are both made of these rows.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeVar, cast

import msgspec
from litestar import Request, Response, route
from litestar.handlers import HTTPRouteHandler

from gateway.broker.administration import Administration
from gateway.core.account import Verdict
from gateway.core.directory import UpstreamKey
from gateway.errors import (
    BadRequest,
    BadSettings,
    BadUsage,
    Conflict,
    LedgerError,
    LedgerUnavailable,
    LedgerUndecided,
    NoSuch,
    NotFound,
    OperatorError,
    OrdergateError,
    Problem,
    StorageUnreachable,
    UpstreamSilent,
    UpstreamUnavailable,
)
from gateway.flow.reconcile import Pass
from gateway.ledger.interface import OrderFilter, StoredOrder
from gateway.telemetry.logs import Log
from gateway.web.admin_bodies import Body, read
from gateway.web.context import Scope
from gateway.web.described import Json
from gateway.web.request import TenantGone, read_body, require_json
from gateway.web.routes import HEADERS

T = TypeVar("T")

_AGAIN_SOON: Final = (("retry-after", "1"),)
_HEADERS: Final[Mapping[str, str]] = {
    **HEADERS,
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


class Desk(Protocol):
    """Does what operators ask for, beside the event loop. Changes are made by `admin-token`.

    All raise OperatorError and LedgerError. What was begun is done to its end, whether or not somebody waits for it.
    """

    async def ask(self, work: Callable[[Administration], T]) -> T:
        """What `work` returns, which has the administration to itself."""

    async def verify_key(self, team: str, key_id: str) -> tuple[UpstreamKey, Verdict]:
        """The key after a read with it. UpstreamSilent where OfferGrid does not say."""

    async def activate_key(self, team: str, key_id: str, *, new_account: bool) -> UpstreamKey:
        """The active key, after a read with it. UpstreamSilent where OfferGrid does not say."""

    async def orders(self, wanted: OrderFilter) -> Sequence[StoredOrder]: ...

    async def order(self, order_id: str) -> StoredOrder | None: ...

    async def resolve(self, order_id: str, placed_as: str | None, reason: str) -> StoredOrder:
        """See `wiring.reconciling`."""

    async def reconcile(self) -> Pass:
        """One look at every team. Refused while the ledger is in quarantine."""

    async def beside(self, work: Callable[[], T]) -> T:
        """What `work` returns, which may take its time."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `params` are the path's, `query` holds what the operation names, `body` is of its kind."""

    params: Mapping[str, str]
    query: Mapping[str, str]
    body: Any = None


Run = Callable[[Desk, Asked], Awaitable[bytes]]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """`path` with parameters in braces, `query` as OpenAPI parameters, `answer` as a schema. `run` gives the answer's
    JSON. A change has a `body`, which may be `Nothing`.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    name: str
    summary: str
    run: Run
    answer: Json
    status: int = 200
    body: type[Body] | None = None
    query: tuple[Mapping[str, Any], ...] = ()
    problems: tuple[type[Problem], ...] = ()

    @property
    def params(self) -> list[str]:
        return re.findall(r"\{(\w+)\}", self.path)


class BodyLimits(msgspec.Struct, frozen=True, kw_only=True):
    max_bytes: int
    timeout_s: float


def in_office(work: Callable[[Administration, Asked], Any]) -> Run:
    """An operation that administration alone does. Its answer is encoded there, too, beside the event loop."""

    async def run(desk: Desk, asked: Asked) -> bytes:
        return await desk.ask(lambda admin: msgspec.json.encode(work(admin, asked)))

    return run


def route_of(operation: Operation, desk: Desk, limits: BodyLimits, log: Log) -> HTTPRouteHandler:
    async def handle(request: Request[Any, Any, Any]) -> Response[bytes]:
        try:
            asked = await _asked(operation, request, limits)
            answer = await operation.run(desk, asked)
        except TenantGone as gone:
            raise BadRequest("The request ended before its body did.") from gone  # nobody is there to be told
        except (OperatorError, LedgerError) as fault:
            problem = problem_of(fault)
            if isinstance(problem, LedgerUnavailable):
                log.error("ledger", where=operation.name, reason=type(fault).__name__, error=str(fault))
            raise problem from fault
        return Response(answer, status_code=operation.status, media_type="application/json", headers=_HEADERS)

    template = re.sub(r"\{(\w+)\}", r"{\1:str}", operation.path)
    return route(template, http_method=[operation.method], name=operation.name, status_code=operation.status)(
        handle
    )


async def _asked(operation: Operation, request: Request[Any, Any, Any], limits: BodyLimits) -> Asked:
    body, scope = None, cast("Scope", request.scope)
    if operation.body is not None:
        require_json(scope)
        raw = await read_body(scope, request.receive, max_bytes=limits.max_bytes, timeout_s=limits.timeout_s)
        body = read(raw, operation.body)
    query = _query(operation, list(request.query_params.multi_items()))
    return Asked(params=dict(request.path_params), query=query, body=body)


def _query(operation: Operation, given: Sequence[tuple[str, str]]) -> dict[str, str]:
    """What stands in the query. BadRequest for what the operation does not name, and for a name that stands twice."""
    known = {parameter["name"] for parameter in operation.query}
    found = dict(given)
    faults = [f"there is no parameter {name[:40]!r}" for name in found if name not in known]
    if len(found) != len(given):
        faults.append("a parameter stands twice")
    faults += [
        f"the parameter {parameter['name']} is needed"
        for parameter in operation.query
        if parameter.get("required") and parameter["name"] not in found
    ]
    if faults:
        raise BadRequest("; ".join(faults)[:1000] + ".")
    return found


def flag(asked: Asked, name: str) -> bool:
    """`true` or `false` in the query; false where it is not there."""
    value = asked.query.get(name, "false")
    if value not in ("true", "false"):
        raise BadRequest(f"{name} is true or false.")
    return value == "true"


def problem_of(fault: OrdergateError) -> Problem:
    """What whoever asks over HTTP is told of what a person at the command line would be told in a line."""
    said = str(fault)
    match fault:
        case NoSuch():
            return NotFound(said)
        case BadUsage():
            return BadRequest(said)
        case UpstreamSilent():
            return UpstreamUnavailable(said, headers=_AGAIN_SOON)
        case LedgerUndecided():
            return LedgerUnavailable(f"{said}. Whether it was done is not known: look first.", headers=_AGAIN_SOON)
        case LedgerError() | StorageUnreachable() | BadSettings():  # the key file is what the ledger is read with
            return LedgerUnavailable(said, headers=_AGAIN_SOON)
        case _:
            return Conflict(said)
