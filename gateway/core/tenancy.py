"""What teams and tenants may be called and may have, and what is told of them: on the command line, over HTTP and in
the audit log alike, with the words of the file of tenants. No text here shows a secret.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.clock import rfc3339
from gateway.core.directory import DAY_MS, Tenant, TenantState, TokenRecord, UpstreamKey
from gateway.core.enrich import MAX_METADATA_BYTES, is_reserved
from gateway.core.json_text import read_object
from gateway.errors import BadRequest, BadUsage

NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}", re.ASCII)
NAME_FORM: Final = "a lower-case letter, then up to 62 lower-case letters, digits or '-'"
MAX_CALLS: Final = 1_000_000
MAX_WINDOW_S: Final = 86_400
MOST: Final[Mapping[str, int]] = {
    "per_minute": MAX_CALLS,
    "per_hour": 100 * MAX_CALLS,
    "guaranteed_per_minute": MAX_CALLS,
    "implicit_window_s": MAX_WINDOW_S,
}
"""As much as the settings of that meaning may say."""


class NewTenant(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant is made with. None: as the settings say. Metadata members map to JSON texts."""

    name: str
    team: str
    state: TenantState = "active"
    require_idempotency_key: bool = False
    guaranteed_per_minute: int | None = None
    implicit_window_s: int | None = None
    defaults: dict[str, str] = msgspec.field(default_factory=dict)
    enforced: dict[str, str] = msgspec.field(default_factory=dict)


def require_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise BadUsage(f"{name!r} is no name: {NAME_FORM}")


def require_numbers(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and not 0 <= number <= MOST[name]:
            raise BadUsage(f"{name} is 0 to {MOST[name]}, not {number}")


def metadata_fault(member: str, text: str) -> str | None:
    """What is wrong with a metadata member and its value, a JSON text; None where nothing is."""
    try:
        member.encode()
    except UnicodeEncodeError:  # an argument of the command line that was no UTF-8
        return f"{member!a} is no text, so it cannot be a metadata member's name"
    if is_reserved(member):
        return f"{member}: names that begin with 'gateway' are the gateway's own"
    try:
        # Where it will stand in an order, so that no order is nested too deep by it.
        (metadata,) = read_object(f'{{"metadata":{{"value":{text}}}}}'.encode()).members
        alone = len(metadata.value) == 1
    except (BadRequest, UnicodeEncodeError, ValueError):  # ValueError: it closed the braces around it
        alone = False
    return None if alone else f"{member}: the value is not JSON (a text needs its quotes)"


def metadata_size_fault(members: Mapping[str, str]) -> str | None:
    """What is wrong with one of a tenant's lists of metadata members as a whole: every order carries them."""
    size = sum(len(member.encode()) + len(text.encode()) for member, text in members.items())
    return f"is larger than {MAX_METADATA_BYTES} bytes" if size > MAX_METADATA_BYTES else None


def require_metadata(*lists: Mapping[str, str]) -> None:
    for members in lists:
        for member, text in members.items():
            if fault := metadata_fault(member, text):
                raise BadUsage(fault)
        if fault := metadata_size_fault(members):
            raise BadUsage(f"a list of metadata members {fault}")


def tenant_facts(tenant: Tenant | NewTenant) -> dict[str, Any]:
    """All that is told of a tenant but its name. Metadata values stand as they were spelled."""
    return {
        "team": tenant.team,
        "state": tenant.state,
        "require_idempotency_key": tenant.require_idempotency_key,
        "guaranteed_per_minute": tenant.guaranteed_per_minute,
        "implicit_window_s": tenant.implicit_window_s,
        "metadata": {"defaults": _raw(tenant.defaults), "enforced": _raw(tenant.enforced)},
    }


def tenant_view(tenant: Tenant) -> dict[str, Any]:
    return {"tenant": tenant.name, **tenant_facts(tenant)}


def key_facts(key: UpstreamKey) -> dict[str, Any]:
    return {
        "state": key.state,
        "verifiedAt": moment(key.verified_ms),
        "sameAccount": key.same_account,
        "perMinute": key.per_minute,
        "perHour": key.per_hour,
    }


def key_view(team: str, key: UpstreamKey) -> dict[str, Any]:
    return {"team": team, "keyId": key.key_id, **key_facts(key), "createdAt": moment(key.created_ms)}


def token_view(tenant: str, token: TokenRecord) -> dict[str, Any]:
    return {
        "tokenId": token.token_id,
        "tenant": tenant,
        "createdAt": moment(token.created_ms),
        "expiresAt": moment(token.expires_ms),
        "revokedAt": moment(token.revoked_ms),
        "lastUsedDay": day(token.last_used_day),
    }


def moment(wall_ms: int | None) -> str | None:
    """RFC 3339, or None where there is none."""
    return None if wall_ms is None else rfc3339(wall_ms)


def day(number: int | None) -> str | None:
    """`2026-01-02` of days since 1970, or None where there is none."""
    return None if number is None else rfc3339(number * DAY_MS)[:10]


def _raw(members: Mapping[str, str]) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(text.encode()) for name, text in members.items()}
