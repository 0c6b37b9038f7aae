"""What has to change so that the ledger's teams and tenants are as a file says. Nothing is done here.

What the file does not say of something that is there stays as it is; what is not in the file stays, unless it is to
be pruned. Then only of what the file has a list of: a file without `teams:` removes none.
"""

from collections.abc import Iterator, Sequence

import msgspec

from gateway.core.directory import DirectoryRows, Tenant, TenantState
from gateway.core.tenancy import NewTenant


class WantedTeam(msgspec.Struct, frozen=True, kw_only=True):
    """`place`: where it stands, as `FILE:LINE:COL`."""

    name: str
    place: str


class WantedTenant(msgspec.Struct, frozen=True, kw_only=True):
    """UNSET: the file does not say. `place` is that of its team's name."""

    name: str
    team: str
    place: str
    state: TenantState | msgspec.UnsetType = msgspec.UNSET
    require_idempotency_key: bool | msgspec.UnsetType = msgspec.UNSET
    guaranteed_per_minute: int | msgspec.UnsetType | None = msgspec.UNSET
    implicit_window_s: int | msgspec.UnsetType | None = msgspec.UNSET
    defaults: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    enforced: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class TenantsFile(msgspec.Struct, frozen=True, kw_only=True):
    """None: the file has no such list."""

    teams: tuple[WantedTeam, ...] | None = None
    tenants: tuple[WantedTenant, ...] | None = None


class AddTeam(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    name: str


class RemoveTeam(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    name: str


class AddTenant(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    tenant: NewTenant


class ChangeTenant(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    before: Tenant
    after: Tenant


class RemoveTenant(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    name: str


Step = AddTeam | RemoveTeam | AddTenant | ChangeTenant | RemoveTenant


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`steps` in an order in which they can be done. `kept`: what is there, not in the file, and stays: `team NAME`,
    `tenant NAME`. `faults`: why the file cannot be done at all, each with its place.
    """

    steps: tuple[Step, ...]
    kept: tuple[str, ...]
    faults: tuple[str, ...]


def plan(rows: DirectoryRows, wanted: TenantsFile, *, prune: bool) -> Plan:
    there = {tenant.name: tenant for tenant in rows.tenants}
    teams = {team.name for team in rows.teams}
    named = {team.name for team in wanted.teams or ()}
    gone_teams = teams - named if prune and wanted.teams is not None else set()
    tenants = wanted.tenants or ()
    listed = {tenant.name for tenant in tenants}
    gone = there.keys() - listed if prune and wanted.tenants is not None else set()
    steps: list[Step] = [AddTeam(name=name) for name in sorted(named - teams)]
    steps += _of_tenants(tenants, there)
    steps += [RemoveTenant(name=name) for name in sorted(gone)]
    steps += [RemoveTeam(name=name) for name in sorted(gone_teams)]
    kept = [f"team {name}" for name in sorted(teams - named - gone_teams)]
    kept += [f"tenant {name}" for name in sorted(there.keys() - listed - gone)]
    faults = _faults(tenants, there, (teams | named) - gone_teams)
    return Plan(steps=tuple(steps), kept=tuple(kept), faults=tuple(faults))


def _of_tenants(tenants: Sequence[WantedTenant], there: dict[str, Tenant]) -> Iterator[Step]:
    for wanted in sorted(tenants, key=lambda tenant: tenant.name):
        said = {
            name: value
            for name, value in msgspec.structs.asdict(wanted).items()
            if value is not msgspec.UNSET and name not in ("name", "team", "place")
        }
        before = there.get(wanted.name)
        if before is None:
            yield AddTenant(tenant=NewTenant(name=wanted.name, team=wanted.team, **said))
        elif (after := msgspec.structs.replace(before, **said)) != before:
            yield ChangeTenant(before=before, after=after)


def _faults(tenants: Sequence[WantedTenant], there: dict[str, Tenant], teams: set[str]) -> Iterator[str]:
    for tenant in tenants:
        before = there.get(tenant.name)
        if tenant.team not in teams:
            yield f"{tenant.place}: tenant {tenant.name}: there is no team {tenant.team}"
        elif before is not None and before.team != tenant.team:
            # An order that is tried again would be sent with one team's key and looked for at the other's account.
            yield (
                f"{tenant.place}: tenant {tenant.name}: belongs to team {before.team}, which cannot be changed: "
                "remove it and add it again, or add another tenant"
            )
