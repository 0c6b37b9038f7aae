"""Administering all at once: teams and tenants as a file says, in one transaction."""

from typing import assert_never

import msgspec

from gateway.broker.office import Noted
from gateway.broker.teams import Teams
from gateway.broker.tenants import Tenants
from gateway.core.tenants_plan import (
    AddTeam,
    AddTenant,
    ChangeTenant,
    RemoveTeam,
    RemoveTenant,
    Step,
    TenantsFile,
    plan,
)
from gateway.errors import OperatorError, Refused


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """`changes` as the audit log tells them, in the order in which they are done. `kept`: what is not in the file."""

    changes: tuple[Noted, ...]
    kept: tuple[str, ...]


class _Undone(Exception):
    """Takes a transaction back that was for looking only."""


class Applying(Teams, Tenants):
    def apply(self, wanted: TenantsFile, *, prune: bool, dry_run: bool) -> Applied:
        """Does what `core.tenants_plan` finds, all of it or nothing; `dry_run`: does it and takes it back.

        Refused, with a line a fault, where any of it cannot be done. Where nothing is to do, nothing is written.
        """
        applied = Applied(changes=(), kept=())
        try:
            with self._store.change():
                applied = self._apply(wanted, prune=prune)
                if dry_run or not applied.changes:
                    raise _Undone
        except _Undone:
            pass
        return applied

    def _apply(self, wanted: TenantsFile, *, prune: bool) -> Applied:
        found = plan(self._store.rows(), wanted, prune=prune)
        if found.faults:
            raise Refused("\n".join(found.faults))
        noted: list[Noted] = []
        faults: list[str] = []
        for step in found.steps:
            try:
                noted.append(self._do(step))
            except OperatorError as fault:
                faults.append(str(fault))
        if faults:
            raise Refused("\n".join(faults))
        return Applied(changes=tuple(noted), kept=found.kept)

    def _do(self, step: Step) -> Noted:
        match step:
            case AddTeam():
                return self._put_team(step.name)
            case AddTenant():
                return self._put_tenant(step.tenant)
            case ChangeTenant():
                return self._change_tenant(step.before, step.after, "tenant change")
            case RemoveTenant():
                return self._drop_tenant(step.name)
            case RemoveTeam():
                return self._drop_team(step.name)
        assert_never(step)
