"""Administering teams: OfferGrid accounts."""

from collections.abc import Sequence

from gateway.broker.office import Noted, Office, named, orders
from gateway.core.directory import Team
from gateway.core.tenancy import require_name
from gateway.core.tenants_plan import team_fault
from gateway.errors import Refused


class Teams(Office):
    def add_team(self, name: str) -> Team:
        with self._store.change():
            self._put_team(name)
            return self.team(name)

    def teams(self) -> Sequence[Team]:
        return self._store.rows().teams

    def team(self, name: str) -> Team:
        return named(self.teams(), "team", name)

    def remove_team(self, name: str) -> Team:
        """With its revoked keys. Refused while it has tenants, keys that are not revoked, or unsettled orders, which
        nobody could look for any more.
        """
        with self._store.change():
            team = self.team(name)
            self._drop_team(name)
        return team

    def _put_team(self, name: str) -> Noted:
        """Inside the caller's transaction, as all that is named so."""
        require_name(name)
        if any(team.name == name for team in self._store.rows().teams):
            raise Refused(f"team {name} exists already")
        self._store.insert_team(name, self._clock.wall_ms())
        return self._note("team add", name, after={})

    def _drop_team(self, name: str) -> Noted:
        rows = self._store.rows()
        team = named(rows.teams, "team", name)
        keys = [key for key in rows.keys if key.team_id == team.team_id]
        tenants = [tenant.name for tenant in rows.tenants if tenant.team_id == team.team_id]
        if fault := team_fault(team, tenants, keys) or self._unsettled_of_team(team):
            raise Refused(fault)
        self._store.remove_team(team.team_id)
        return self._note("team remove", name, before={"keys": [key.key_id for key in keys]})

    def _unsettled_of_team(self, team: Team) -> str | None:
        unsettled = self._store.unsettled(team_id=team.team_id)
        if not unsettled:
            return None
        return f"team {team.name} has {orders(unsettled)} that nobody is sure of: ordergate orders reconcile"
