"""Tenants and their tokens over HTTP, one by one or as a whole document. A token is seen once, when it is issued."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import UNSET

from gateway.broker import administration as office
from gateway.broker.administration import Administration
from gateway.core.faults import Fault
from gateway.core.tenancy import moment, tenant_view, token_view
from gateway.core.tenants_plan import TenantsFile
from gateway.core.tenants_plan import WantedTeam as PlannedTeam
from gateway.core.tenants_plan import WantedTenant as PlannedTenant
from gateway.core.tokens import parse, seconds_of
from gateway.errors import BadRequest, Conflict, Refused
from gateway.web.admin_bodies import (
    Metadata,
    NewTenant,
    NewToken,
    Nothing,
    TenantsDocument,
    WantedTenant,
    metadata_faults,
    refuse,
    texts,
)
from gateway.web.admin_operation import Asked, Operation, flag, in_office
from gateway.web.described import listed, ref

_METADATA: Final = "These metadata members cannot be."


def _tenants(admin: Administration, _: Asked) -> Any:
    return [tenant_view(tenant) for tenant in admin.tenants()]


def _add_tenant(admin: Administration, asked: Asked) -> Any:
    body: NewTenant = asked.body
    defaults, enforced = _members(body.metadata, "/metadata")
    new = office.NewTenant(
        name=body.tenant,
        team=body.team,
        state=body.state,
        require_idempotency_key=body.require_idempotency_key,
        guaranteed_per_minute=body.guaranteed_per_minute,
        implicit_window_s=body.implicit_window_s,
        defaults=defaults,
        enforced=enforced,
    )
    return tenant_view(admin.add_tenant(new))


def _tenant(admin: Administration, asked: Asked) -> Any:
    return tenant_view(admin.tenant(asked.params["tenant"]))


def _remove_tenant(admin: Administration, asked: Asked) -> Any:
    return tenant_view(admin.remove_tenant(asked.params["tenant"]))


def _suspend(admin: Administration, asked: Asked) -> Any:
    return tenant_view(admin.set_tenant_state(asked.params["tenant"], "suspended"))


def _resume(admin: Administration, asked: Asked) -> Any:
    return tenant_view(admin.set_tenant_state(asked.params["tenant"], "active"))


def _set_metadata(admin: Administration, asked: Asked) -> Any:
    defaults, enforced = _members(asked.body, "")
    return tenant_view(admin.set_metadata(asked.params["tenant"], defaults=defaults, enforced=enforced))


def _members(body: Metadata, pointer: str) -> tuple[dict[str, str], dict[str, str]]:
    defaults, enforced = texts(body.defaults), texts(body.enforced)
    faults = [*metadata_faults(f"{pointer}/defaults", defaults), *metadata_faults(f"{pointer}/enforced", enforced)]
    refuse(_METADATA, *faults)
    return defaults, enforced


def _tokens(admin: Administration, asked: Asked) -> Any:
    tenant = asked.query["tenant"]
    return [token_view(tenant, token) for token in admin.tokens(tenant)]


def _issue_token(admin: Administration, asked: Asked) -> Any:
    body: NewToken = asked.body
    seconds = None if body.expires_in is None else seconds_of(body.expires_in)
    issued = admin.issue_token(body.tenant, expires_in_s=seconds)
    return {
        "tokenId": issued.token.token_id,
        "token": issued.token.text(),
        "tenant": issued.tenant,
        "expiresAt": moment(issued.record.expires_ms),
    }


def _revoke_token(admin: Administration, asked: Asked) -> Any:
    token_id = asked.params["tokenId"]
    if whole := parse(token_id):
        raise BadRequest(f"This is a whole token, which a path shows to others; its id is {whole.token_id}.")
    view = token_view("", admin.revoke_token(token_id))
    del view["tenant"]
    return view


def _apply(admin: Administration, asked: Asked) -> Any:
    wanted, dry_run = _planned(asked.body), flag(asked, "dryRun")
    try:
        applied = admin.apply(wanted, prune=flag(asked, "prune"), dry_run=dry_run)
    except Refused as fault:
        raise Conflict("None of it was done.", errors=tuple(map(_placed, str(fault).splitlines()))) from fault
    return {
        "changes": applied.changes,
        "kept": applied.kept,
        "unchanged": applied.unchanged,
        "notes": applied.notes,
        "dryRun": dry_run,
    }


def _placed(line: str) -> tuple[str, str]:
    """A line of a refusal, with its pointer where it begins with one."""
    place, _, what = line.partition(": ")
    return (place, what) if place.startswith("/") else ("", line)


def _planned(body: TenantsDocument) -> TenantsFile:
    """The document as administration takes it. BadRequest where a name stands twice, or metadata cannot be."""
    teams = None if body.teams is UNSET else body.teams
    tenants = None if body.tenants is UNSET else body.tenants
    refuse("The document cannot be.", *_faults(body))
    return TenantsFile(
        teams=None if teams is None else tuple(
            PlannedTeam(name=team.name, place=f"/teams/{index}/name") for index, team in enumerate(teams)
        ),
        tenants=None if tenants is None else tuple(
            _planned_tenant(tenant, f"/tenants/{index}/team") for index, tenant in enumerate(tenants)
        ),
    )  # fmt: skip


def _planned_tenant(tenant: WantedTenant, place: str) -> PlannedTenant:
    members = tenant.metadata
    return PlannedTenant(
        name=tenant.name,
        team=tenant.team,
        place=place,
        state=tenant.state,
        require_idempotency_key=tenant.require_idempotency_key,
        guaranteed_per_minute=tenant.guaranteed_per_minute,
        implicit_window_s=tenant.implicit_window_s,
        defaults=UNSET if members.defaults is UNSET else texts(members.defaults),
        enforced=UNSET if members.enforced is UNSET else texts(members.enforced),
    )


def _faults(body: TenantsDocument) -> Iterator[Fault]:
    for name, items in (("teams", body.teams), ("tenants", body.tenants)):
        yield from _twice(name, [] if items is UNSET else [item.name for item in items])
    for index, tenant in enumerate([] if body.tenants is UNSET else body.tenants):
        for kind, members in (("defaults", tenant.metadata.defaults), ("enforced", tenant.metadata.enforced)):
            if members is not UNSET:
                yield from metadata_faults(f"/tenants/{index}/metadata/{kind}", texts(members))


def _twice(kind: str, names: Sequence[str]) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield Fault(f"/{kind}/{index}/name", f"{name} stands twice")
        seen.add(name)


_TENANT: Final = "/admin/tenants/{tenant}"
_FLAG: Final[Mapping[str, Any]] = {"type": "boolean", "default": False}

TENANTS: Final = (
    Operation(
        method="GET", path="/admin/tenants", name="listTenants", summary="The tenants: services that send orders",
        run=in_office(_tenants), answer=listed("Tenant"),
    ),
    Operation(
        method="POST", path="/admin/tenants", name="addTenant", summary="Add a tenant to a team",
        run=in_office(_add_tenant), body=NewTenant, status=201, answer=ref("Tenant"),
    ),
    Operation(
        method="GET", path=_TENANT, name="showTenant", summary="Everything about one tenant but its tokens",
        run=in_office(_tenant), answer=ref("Tenant"),
    ),
    Operation(
        method="DELETE", path=_TENANT, name="removeTenant",
        summary="Remove a tenant, none of whose orders is in doubt, with its tokens. Its orders stay",
        run=in_office(_remove_tenant), body=Nothing, answer=ref("Tenant"),
    ),
    Operation(
        method="POST", path=f"{_TENANT}/suspend", name="suspendTenant",
        summary="Refuse a tenant's requests from now on. Orders in flight end as they would",
        run=in_office(_suspend), body=Nothing, answer=ref("Tenant"),
    ),
    Operation(
        method="POST", path=f"{_TENANT}/resume", name="resumeTenant",
        summary="Take a suspended tenant's requests again",
        run=in_office(_resume), body=Nothing, answer=ref("Tenant"),
    ),
    Operation(
        method="PUT", path=f"{_TENANT}/metadata", name="setMetadata",
        summary="Set the metadata members that a tenant's orders get, all at once",
        run=in_office(_set_metadata), body=Metadata, answer=ref("Tenant"),
    ),
    Operation(
        method="GET", path="/admin/tokens", name="listTokens", summary="A tenant's tokens, by their ids",
        run=in_office(_tokens), answer=listed("Token"),
        query=({"name": "tenant", "in": "query", "required": True, "schema": ref("Name")},),
    ),
    Operation(
        method="POST", path="/admin/tokens", name="issueToken",
        summary="Issue a token to a tenant. This answer is the only one that shows it",
        run=in_office(_issue_token), body=NewToken, status=201, answer=ref("IssuedToken"),
    ),
    Operation(
        method="DELETE", path="/admin/tokens/{tokenId}", name="revokeToken",
        summary="Revoke a token. It is refused within a second",
        run=in_office(_revoke_token), body=Nothing, answer=ref("RevokedToken"),
    ),
    Operation(
        method="POST", path="/admin/apply", name="apply",
        summary="Make the teams and tenants as the document says, all of it or nothing",
        run=in_office(_apply), body=TenantsDocument, answer=ref("Applied"),
        query=(
            {"name": "dryRun", "in": "query", "schema": _FLAG, "description": "Only say what would be done."},
            {"name": "prune", "in": "query", "schema": _FLAG, "description": "Remove what a list does not name."},
        ),
    ),
)  # fmt: skip
"""Every operation on tenants, their tokens, and documents of teams and tenants."""
