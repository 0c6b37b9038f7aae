"""The ledger's orders as tenants see them: the views of `GET /orders` and `GET /orders/{orderId}`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from gateway.clock import rfc3339
from gateway.core.audit import AuditRow, Verified, written_at
from gateway.core.lifecycle import OUTCOMES, Outcome
from gateway.core.outcome import UNREADABLE, parsed
from gateway.errors import BadRequest
from gateway.ledger.interface import OrderFilter, StoredOrder

MAX_LIMIT: Final = 100
DEFAULT_LIMIT: Final = 20
_CURSOR: Final = re.compile(r"[0-9a-f]{1,15}", re.ASCII)


def order_view(order: StoredOrder) -> dict[str, Any]:
    """One order. `response` is OfferGrid's body as it came, or null where there is none or it is not JSON."""
    return {
        "orderId": order.order_id,
        "tenant": order.tenant,
        "outcome": order.outcome,
        "httpStatus": order.http_status,
        "upstreamOrderId": order.upstream_order_id,
        "upstreamStatus": order.upstream_status,
        "idempotencyKey": order.idempotency_key,
        "createdAt": rfc3339(order.created_ms),
        "settledAt": _moment(order.settled_ms),
        "attempts": [
            {
                "startedAt": rfc3339(attempt.started_ms),
                "endedAt": _moment(attempt.ended_ms),
                "evidence": attempt.evidence,
                "status": attempt.status,
            }
            for attempt in order.attempts
        ],
        "response": _json(order.response),
    }


def page_view(orders: Sequence[StoredOrder], wanted: OrderFilter) -> dict[str, Any]:
    """A page, and where the next one begins: null on the last. One order more than `limit` was asked for."""
    limit = wanted.limit - 1
    more = len(orders) > limit
    return {
        "orders": [order_view(order) for order in orders[:limit]],
        "nextCursor": f"{orders[limit - 1].seq:x}" if more else None,
    }


def audit_view(row: AuditRow) -> dict[str, Any]:
    """One row of the audit log. A row that somebody changed may hold anything: then `change` is its text."""
    who, action, subject = (text.decode("utf-8", "replace") for text in (row.who, row.action, row.subject))
    readable = parsed(row.change) is not UNREADABLE
    return {
        "number": row.number,
        "at": written_at(row),
        "who": who,
        "action": action,
        "subject": subject,
        "change": msgspec.Raw(row.change) if readable else row.change.decode("utf-8", "replace"),
    }


def verified_view(found: Verified) -> dict[str, Any]:
    """Whether the audit log is as it was written; where it is not, the first row that is not, and what was done."""
    return {"ok": found.broken is None, "rows": found.rows, "broken": found.broken, "begins": found.begins}


def filter_of(query: Sequence[tuple[str, str]], tenant_id: int | None) -> OrderFilter:
    """The filter that a query string means; BadRequest names everything that is wrong with it.

    Of all tenants' orders, where `tenant_id` is None, one tenant's may be asked for by its name.
    """
    known = ("outcome", "limit", "cursor") if tenant_id is not None else ("outcome", "limit", "cursor", "tenant")
    values, faults = dict(query), []
    if len(values) != len(query):
        faults.append("a parameter stands twice")
    faults += [f"there is no parameter {name[:40]!r}" for name in values if name not in known]
    outcome, limit, cursor = _texts(values)
    if outcome is not None and outcome not in OUTCOMES:
        faults.append(f"outcome is one of {', '.join(OUTCOMES)}")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 3 and 1 <= int(limit) <= MAX_LIMIT):
        faults.append(f"limit is a whole number from 1 to {MAX_LIMIT}")
    if cursor is not None and not _CURSOR.fullmatch(cursor):
        faults.append("cursor is not one that a page named")
    if faults:
        raise BadRequest("; ".join(faults)[:1000] + ".")
    return OrderFilter(
        tenant_id=tenant_id,
        tenant=values.get("tenant"),
        outcome=cast("Outcome | None", outcome),
        before_seq=None if cursor is None else int(cursor, 16),
        limit=int(limit) + 1,
    )


def _texts(values: Mapping[str, str]) -> tuple[str | None, str, str | None]:
    return values.get("outcome"), values.get("limit", str(DEFAULT_LIMIT)), values.get("cursor")


def _moment(wall_ms: int | None) -> str | None:
    return None if wall_ms is None else rfc3339(wall_ms)


def _json(body: bytes | None) -> Any:
    return None if not body or parsed(body) is UNREADABLE else msgspec.Raw(body)
