"""What has to change so that the ledger's teams and tenants are as a file says. Nothing is done here.

What the file does not say of something that is there stays as it is; what is not in the file stays, unless it is to
be pruned. Then only of what the file has a list of: a file without `teams:` removes none.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, assert_never

import msgspec

from gateway.core.directory import DirectoryRows, Team, Tenant, TenantState, UpstreamKey
from gateway.core.tenancy import NewTenant, tenant_facts

STATE_ACTIONS: Final[Mapping[TenantState, str]] = {"active": "tenant resume", "suspended": "tenant suspend"}

T = TypeVar("T")


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
    """With its revoked keys."""

    team: Team
    key_ids: tuple[str, ...]


class AddTenant(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    tenant: NewTenant


class ChangeTenant(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    before: Tenant
    after: Tenant


class RemoveTenant(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """With its tokens."""

    tenant: Tenant
    token_ids: tuple[str, ...]


Step = AddTeam | RemoveTeam | AddTenant | ChangeTenant | RemoveTenant


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`steps` in an order in which they can be done. `kept`: what is there, stays, and would be pruned, as `team NAME`
    or `tenant NAME`. `unchanged`: how many are as the file says. `faults`: why it cannot be done at all, those of the
    file with their places.
    """

    steps: tuple[Step, ...]
    kept: tuple[str, ...]
    unchanged: int
    faults: tuple[str, ...]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A change as the audit log tells it. None: there was nothing, or there is nothing left."""

    action: str
    subject: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


def plan(rows: DirectoryRows, wanted: TenantsFile, *, prune: bool) -> Plan:
    there = {tenant.name: tenant for tenant in rows.tenants}
    teams = {team.name: team for team in rows.teams}
    named = {team.name for team in wanted.teams or ()}
    listed = {tenant.name for tenant in wanted.tenants or ()}
    odd_teams = sorted(teams.keys() - named) if wanted.teams is not None else []
    odd = sorted(there.keys() - listed) if wanted.tenants is not None else []
    gone_teams, gone = (odd_teams, odd) if prune else ([], [])
    steps: list[Step] = [AddTeam(name=name) for name in sorted(named - teams.keys())]
    steps += (changes := list(_of_tenants(wanted.tenants or (), there)))
    steps += _removed_tenants(rows, [there[name] for name in gone])
    steps += _removed_teams(rows, [teams[name] for name in gone_teams])
    kept = () if prune else (*(f"team {name}" for name in odd_teams), *(f"tenant {name}" for name in odd))
    staying = (teams.keys() | named) - set(gone_teams)
    faults = [*_faults(wanted.tenants or (), there, staying), *_faults_of_teams(rows, gone_teams, set(gone))]
    unchanged = len(named & teams.keys()) + len(listed) - len(changes)
    return Plan(steps=tuple(steps), kept=kept, unchanged=unchanged, faults=tuple(faults))


def overpromised(
    rows: DirectoryRows, steps: Iterable[Step], *, per_minute: int, reserved_per_minute: int
) -> Iterator[str]:
    """What to know of teams whose tenants have more guaranteed to them than the team's key carries, once the steps are
    done. `per_minute` is what a key carries that has no limit of its own; 0: no limit.
    """
    parts = {one.name: (one.team, _part(one)) for one in rows.tenants}
    for step in steps:
        match step:
            case AddTenant():
                parts[step.tenant.name] = (step.tenant.team, _part(step.tenant))
            case ChangeTenant():
                parts[step.after.name] = (step.after.team, _part(step.after))
            case RemoveTenant():
                del parts[step.tenant.name]
    teams = {team.team_id: team.name for team in rows.teams}
    own = {teams[key.team_id]: key.per_minute for key in rows.keys if key.state == "active"}
    promised: dict[str, int] = {}
    for team, part in parts.values():
        promised[team] = promised.get(team, 0) + part
    for team, together in sorted(promised.items()):
        limit = per_minute if (found := own.get(team)) is None else found
        share = limit - min(reserved_per_minute, limit - 1)
        if limit and together > share:
            yield (
                f"the tenants of team {team} have {together} calls a minute guaranteed to them, and its orders have "
                f"{share} in all: each part is cut down to fit"
            )


def _part(tenant: Tenant | NewTenant) -> int:
    return (tenant.guaranteed_per_minute or 0) if tenant.state == "active" else 0


def told(step: Step) -> Told:
    """The same whether the change is still to come or was made."""
    match step:
        case AddTeam():
            return Told(action="team add", subject=step.name, after={})
        case RemoveTeam():
            return Told(action="team remove", subject=step.team.name, before={"keys": step.key_ids})
        case AddTenant():
            return Told(action="tenant add", subject=step.tenant.name, after=tenant_facts(step.tenant))
        case ChangeTenant():
            before, after = step.before, step.after
            only_state = msgspec.structs.replace(before, state=after.state) == after
            return Told(
                action=STATE_ACTIONS[after.state] if only_state else "tenant change",
                subject=after.name,
                before=tenant_facts(before),
                after=tenant_facts(after),
            )
        case RemoveTenant():
            facts = {**tenant_facts(step.tenant), "tokens": step.token_ids}
            return Told(action="tenant remove", subject=step.tenant.name, before=facts)
    assert_never(step)


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


def _faults(tenants: Sequence[WantedTenant], there: dict[str, Tenant], teams: Collection[str]) -> Iterator[str]:
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


def _removed_tenants(rows: DirectoryRows, tenants: Iterable[Tenant]) -> Iterator[Step]:
    tokens = _grouped((token.tenant_id, token.token_id) for token in rows.tokens)
    for tenant in tenants:
        yield RemoveTenant(tenant=tenant, token_ids=tuple(tokens.get(tenant.tenant_id, ())))


def _removed_teams(rows: DirectoryRows, teams: Iterable[Team]) -> Iterator[Step]:
    keys = _grouped((key.team_id, key.key_id) for key in rows.keys)
    for team in teams:
        yield RemoveTeam(team=team, key_ids=tuple(keys.get(team.team_id, ())))


def _faults_of_teams(rows: DirectoryRows, teams: Collection[str], gone: Collection[str]) -> Iterator[str]:
    """Why these teams cannot be removed, once the tenants `gone` are."""
    tenants = _grouped((one.team_id, one.name) for one in rows.tenants if one.name not in gone)
    keys = _grouped((key.team_id, key) for key in rows.keys)
    by_name = {team.name: team for team in rows.teams}
    for team in (by_name[name] for name in teams):
        if fault := team_fault(team, tenants.get(team.team_id, ()), keys.get(team.team_id, ())):
            yield fault


def team_fault(team: Team, tenants: Sequence[str], keys: Iterable[UpstreamKey]) -> str | None:
    """Why a team with these tenants and keys cannot be removed; None where it can."""
    if tenants:
        return f"team {team.name} has tenants ({', '.join(tenants[:5])}): remove them first"
    held = [key.key_id for key in keys if key.state != "revoked"]
    if held:
        return f"team {team.name} has keys that are not revoked ({', '.join(held[:5])}): revoke them first"
    return None


def _grouped(pairs: Iterable[tuple[int, T]]) -> dict[int, list[T]]:
    found: dict[int, list[T]] = {}
    for owner, thing in pairs:
        found.setdefault(owner, []).append(thing)
    return found
