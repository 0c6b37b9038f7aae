"""The admin listener's OpenAPI document: what is on every listener, the metrics, and each operation's row."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from gateway import errors
from gateway.core.directory import KeyState, TenantState
from gateway.core.tenancy import NAME
from gateway.core.tokens import ID_BYTES
from gateway.errors import Problem
from gateway.web.admin_bodies import schemas as body_schemas
from gateway.web.admin_operation import Operation
from gateway.web.admin_orders import ORDERS
from gateway.web.admin_teams import TEAMS
from gateway.web.admin_tenants import TENANTS
from gateway.web.described import (
    ANY,
    MAYBE_MOMENT,
    MAYBE_TEXT,
    MOMENT,
    TEXT,
    Json,
    common_paths,
    document,
    json_content,
    operation,
    order_schemas,
    problem_schema,
    ref,
)

OPERATIONS: Final = (*TEAMS, *TENANTS, *ORDERS)

_HEALTH: Final[tuple[type[Problem], ...]] = (*ANY, errors.Forbidden)
_PAGES: Final[tuple[type[Problem], ...]] = (*_HEALTH, errors.Unauthorized)
_LOOKS: Final[tuple[type[Problem], ...]] = (*_PAGES, errors.LedgerUnavailable)
_CHANGES: Final[tuple[type[Problem], ...]] = (
    *_LOOKS, errors.NotAcceptable, errors.RequestTimeout, errors.Conflict, errors.BodyTooLarge,
    errors.UnsupportedMediaType,
)  # fmt: skip

_COUNT: Final[Mapping[str, Any]] = {"type": "integer", "minimum": 0}
_MAYBE_COUNT: Final[Mapping[str, Any]] = {"type": ["integer", "null"], "minimum": 0}
_FLAG: Final[Mapping[str, Any]] = {"type": "boolean"}
_ANYTHING: Final[Mapping[str, Any]] = {}
_PARAMS: Final[Mapping[str, Json]] = {
    "team": ref("Name"),
    "tenant": ref("Name"),
    "keyId": {"type": "string", "pattern": "^[a-z0-9-]{1,64}$"},
    "tokenId": {"type": "string", "pattern": "^[a-z2-7]{10}$"},
    "orderId": {"type": "string", "format": "uuid"},
}


def admin_document(*, metrics_token: bool) -> Json:
    """The admin listener's interface. `metrics_token`: the metrics ask for the token, too."""
    content = {"text/plain": {"schema": TEXT}, "application/openmetrics-text": {"schema": TEXT}}
    text = {"200": {"description": "Every series", "content": content}}
    metrics = operation(
        "metrics", "Metrics for Prometheus", text, problems=_PAGES, security=("bearer",) if metrics_token else ()
    )
    paths: Json = {}
    for row in OPERATIONS:
        paths.setdefault(row.path, {})[row.method.lower()] = _described(row)
    paths |= {"/metrics": {"get": metrics}, **common_paths(health=_HEALTH, pages=_PAGES, security=("bearer",))}
    schemas = {**_answers(), **order_schemas(), **body_schemas(), "Problem": problem_schema()}
    return document("Ordergate for operators", paths, schemas, token="The admin token.")


def _described(row: Operation) -> Json:
    changes = row.body is not None
    params = [{"name": name, "in": "path", "required": True, "schema": _PARAMS[name]} for name in row.params]
    answer = {str(row.status): {"description": "Done" if changes else "It", "content": json_content(row.answer)}}
    found = operation(
        row.name, row.summary, answer, problems=(*(_CHANGES if changes else _LOOKS), *row.problems),
        parameters=[*params, *row.query], security=("bearer",),
    )  # fmt: skip
    if row.body is not None:
        schema = body_schemas()[row.body.__name__]
        content = json_content(ref(row.body.__name__))
        found["requestBody"] = {"required": bool(schema.get("required")), "content": content}
    return found


def _answers() -> Json:
    """What the operations answer. Nothing else stands in an answer."""
    name: Json = {"type": "string", "pattern": f"^{NAME.pattern}$"}
    key_state, tenant_state = {"enum": list(get_args(KeyState))}, {"enum": list(get_args(TenantState))}
    members = {"type": "object", "additionalProperties": _ANYTHING}
    key = {"team": ref("Name"), "keyId": TEXT, "state": key_state}
    last_used = {"type": ["string", "null"], "format": "date"}
    times = {
        "createdAt": MOMENT, "expiresAt": MAYBE_MOMENT, "revokedAt": MAYBE_MOMENT, "lastUsedDay": last_used,
    }  # fmt: skip
    token_id = {"type": "string", "minLength": 8 * ID_BYTES // 5, "maxLength": 16}
    change = {"action": TEXT, "subject": TEXT, "change": {"type": "object"}}
    broken = {"number": {"type": "integer"}, "what": TEXT}
    reconciled = ("unknown", "looks", "failedLooks", "found", "late", "duplicates", "stillUnknown")
    return {
        "Name": name,
        "Team": _object(team=ref("Name"), createdAt=MOMENT),
        "TeamName": _object(team=ref("Name")),
        "Key": _object(
            **key, verifiedAt=MAYBE_MOMENT, sameAccount=_FLAG, perMinute=_MAYBE_COUNT, perHour=_MAYBE_COUNT,
            createdAt=MOMENT,
        ),
        "KeyState": _object(**key),
        "Tenant": _object(
            tenant=ref("Name"), team=ref("Name"), state=tenant_state, require_idempotency_key=_FLAG,
            guaranteed_per_minute=_MAYBE_COUNT, implicit_window_s=_MAYBE_COUNT,
            metadata=_object(defaults=members, enforced=members),
        ),
        "Token": _object(tokenId=token_id, tenant=ref("Name"), **times),
        "RevokedToken": _object(tokenId=token_id, **times),
        "IssuedToken": _object(tokenId=token_id, token=TEXT, tenant=ref("Name"), expiresAt=MAYBE_MOMENT),
        "Applied": _object(
            changes={"type": "array", "items": _object(**change)}, kept={"type": "array", "items": TEXT},
            unchanged=_COUNT, notes={"type": "array", "items": TEXT}, dryRun=_FLAG,
        ),
        "Reconciled": _object(**dict.fromkeys(reconciled, _COUNT)),
        "AuditPage": _object(audit={"type": "array", "items": ref("AuditRow")}, nextCursor=MAYBE_TEXT),
        "AuditRow": _object(
            number={"type": "integer"}, at=TEXT, who=TEXT, **{**change, "change": _ANYTHING}
        ),
        "Verified": _object(
            ok=_FLAG, rows=_COUNT, begins={"type": ["integer", "null"]},
            broken={"anyOf": [_object(**broken), {"type": "null"}]},
        ),
    }  # fmt: skip


def _object(**members: Mapping[str, Any]) -> Json:
    return {
        "type": "object", "properties": members, "required": list(members), "additionalProperties": False,
    }  # fmt: skip
