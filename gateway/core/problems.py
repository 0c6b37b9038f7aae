"""Problem documents (RFC 9457): one function that writes them, for orders and for everything else."""

from typing import Any, Final

import msgspec

from gateway.core.lifecycle import Outcome
from gateway.errors import Problem

MEDIA_TYPE: Final = "application/problem+json"
MAX_UPSTREAM_TEXT: Final = 2_048
"""Characters of an upstream body that is not JSON: enough to recognise a proxy's page by."""


class AboutOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a problem says of an order. `order_id` is None where the ledger has no row for it.

    `upstream` is OfferGrid's (status, body), where a whole answer came.
    """

    outcome: Outcome
    retryable: bool
    order_id: str | None = None
    upstream: tuple[int, Any] | None = None


def document(problem: Problem, *, request_id: str, order: AboutOrder | None = None) -> bytes:
    """The problem as JSON bytes, members in a fixed order, those that do not apply left out."""
    members: dict[str, Any] = {
        "type": f"/problems/{problem.type}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "requestId": request_id,
    }
    if order is not None:
        members |= {"outcome": order.outcome, "retryable": order.retryable}
        if order.order_id is not None:
            members["orderId"] = order.order_id
    if problem.errors:
        members["errors"] = [{"pointer": pointer, "detail": detail} for pointer, detail in problem.errors]
    if order is not None and order.upstream is not None:
        status, body = order.upstream
        members["upstream"] = {"status": status, "body": body}
    return msgspec.json.encode(members)


def upstream_body(body: bytes, *, is_json: bool) -> Any:
    """An upstream body as a member of a problem: JSON as it came, anything else as the beginning of a text."""
    if is_json:
        return msgspec.Raw(body)
    return body[: 4 * MAX_UPSTREAM_TEXT].decode("utf-8", "replace")[:MAX_UPSTREAM_TEXT]
