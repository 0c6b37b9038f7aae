"""Administering all at once: teams and tenants as a file says, in one transaction."""

from collections.abc import Iterator, Sequence
from typing import Final, assert_never

import msgspec

from gateway.broker.office import Noted, noted
from gateway.broker.teams import Teams
from gateway.broker.tenants import Tenants
from gateway.core.directory import DirectoryRows
from gateway.core.tenants_plan import (
    AddTeam,
    AddTenant,
    ChangeTenant,
    RemoveTeam,
    RemoveTenant,
    Step,
    TenantsFile,
    overpromised,
    plan,
    told,
)
from gateway.errors import Refused

TRIES: Final = 10
"""Before each of them somebody else has changed teams or tenants."""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What is done, or would be. `changes` as the audit log tells them, in the order in which they are done. `kept`:
    what the file's lists lack and stays, unless it is pruned. `unchanged`: how many are as the file says. `faults`: why
    none of it can be done. `notes`: what is as the file says, and not as whoever wrote it may think.
    """

    changes: tuple[Noted, ...]
    kept: tuple[str, ...]
    unchanged: int
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that is good as long as nobody changes a team or a tenant: `rows` are what it was made from."""

    steps: tuple[Step, ...]
    rows: DirectoryRows
    shown: Applied


class _Moved(Exception):
    """Takes back a transaction whose plan is out of date."""


class Applying(Teams, Tenants):
    def apply(self, wanted: TenantsFile, *, prune: bool, dry_run: bool) -> Applied:
        """Does what `core.tenants_plan` finds, all of it or nothing. Where nothing is to do, nothing is written.

        Refused, with a line a fault, where any of it cannot be done.
        """
        for _ in range(TRIES):
            prepared = self.prepare(wanted, prune=prune)
            if prepared.shown.faults:
                raise Refused("\n".join(prepared.shown.faults))
            if dry_run or self.carry_out(prepared):
                return prepared.shown
        raise Refused("teams and tenants are changed by somebody else all the time")

    def prepare(self, wanted: TenantsFile, *, prune: bool) -> Prepared:
        """What is to do. Reads only: a gateway writes meanwhile, however long the file is."""
        rows = self._store.rows()
        found = plan(rows, wanted, prune=prune)
        faults = [*found.faults, *(fault for step in found.steps if (fault := self._unsettled(step)))]
        changes = tuple(noted(told(step)) for step in found.steps)
        shown = Applied(
            changes=changes,
            kept=found.kept,
            unchanged=found.unchanged,
            faults=tuple(faults),
            notes=self._notes(rows, found.steps),
        )
        return Prepared(steps=found.steps, rows=rows, shown=shown)

    def _notes(self, rows: DirectoryRows, steps: Sequence[Step]) -> tuple[str, ...]:
        if self._budget is None:
            return ()
        per_minute, reserved = self._budget.per_minute, self._budget.reserved_per_minute
        return tuple(overpromised(rows, steps, per_minute=per_minute, reserved_per_minute=reserved))

    def carry_out(self, prepared: Prepared) -> bool:
        """Does exactly that, in one transaction. False, and nothing is done: a team or a tenant was changed meanwhile.

        Refused where orders came meanwhile that nobody is sure of. As long as the transaction lasts no order can be
        written down: nothing is read in it that can be read before.
        """
        if not prepared.steps:
            return True
        try:
            with self._store.change():
                if self._store.version() != prepared.rows.version:
                    raise _Moved
                self._carry_out(prepared)
        except _Moved:
            return False
        return True

    def _carry_out(self, prepared: Prepared) -> None:
        team_ids = {team.name: team.team_id for team in prepared.rows.teams}
        scopes = self._store.scopes()
        faults: list[str] = []
        for step in prepared.steps:
            match step:
                case AddTeam():
                    team_ids[step.name] = self._store.insert_team(step.name, self._clock.wall_ms())
                case AddTenant():
                    self._insert_tenant(step.tenant, team_ids[step.tenant.team], scopes)
                case ChangeTenant():
                    self._store.set_tenant(step.after)
                case RemoveTenant() | RemoveTeam():
                    faults += self._remove(step)
                case _:
                    assert_never(step)
        if faults:
            raise Refused("\n".join(faults))
        self._note_all(prepared.shown.changes)

    def _remove(self, step: RemoveTenant | RemoveTeam) -> Iterator[str]:
        """Removes it, unless there is something to say against it."""
        if fault := self._unsettled(step):
            yield fault
        elif isinstance(step, RemoveTenant):
            self._store.remove_tenant(step.tenant.tenant_id, self._clock.wall_ms())
        else:
            self._store.remove_team(step.team.team_id)

    def _unsettled(self, step: Step) -> str | None:
        match step:
            case RemoveTenant():
                return self._unsettled_of_tenant(step.tenant)
            case RemoveTeam():
                return self._unsettled_of_team(step.team)
        return None
