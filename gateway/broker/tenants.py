"""Administering tenants: the services that send orders."""

from collections.abc import Container, Mapping, Sequence

import msgspec

from gateway.broker.office import Noted, Office, named, orders
from gateway.core.directory import Tenant, TenantState
from gateway.core.tenancy import NewTenant, require_metadata, require_name, require_numbers, tenant_facts
from gateway.core.tenants_plan import STATE_ACTIONS
from gateway.errors import Refused


class Tenants(Office):
    def add_tenant(self, tenant: NewTenant) -> Tenant:
        with self._store.change():
            self._put_tenant(tenant)
            return self.tenant(tenant.name)

    def tenants(self) -> Sequence[Tenant]:
        return self._store.rows().tenants

    def tenant(self, name: str) -> Tenant:
        return named(self._store.rows().tenants, "tenant", name)

    def set_tenant_state(self, name: str, state: TenantState) -> Tenant:
        with self._store.change():
            tenant = self.tenant(name)
            return self._alter_tenant(tenant, msgspec.structs.replace(tenant, state=state), STATE_ACTIONS[state])

    def set_metadata(self, name: str, *, defaults: Mapping[str, str], enforced: Mapping[str, str]) -> Tenant:
        """Replaces both lists. Values are JSON texts and are kept as they are spelled."""
        require_metadata(defaults, enforced)
        with self._store.change():
            tenant = self.tenant(name)
            wanted = msgspec.structs.replace(tenant, defaults=dict(defaults), enforced=dict(enforced))
            return self._alter_tenant(tenant, wanted, "tenant metadata")

    def remove_tenant(self, name: str) -> Tenant:
        """With its tokens: whoever shows one is unknown from then on. Its orders stay. Refused while one of them is
        unsettled, which its tenant would ask for.
        """
        with self._store.change():
            tenant = self.tenant(name)
            self._drop_tenant(name)
        return tenant

    def _put_tenant(self, tenant: NewTenant) -> Noted:
        """Inside the caller's transaction, as all that follows."""
        require_name(tenant.name)
        require_numbers(
            guaranteed_per_minute=tenant.guaranteed_per_minute, implicit_window_s=tenant.implicit_window_s
        )
        require_metadata(tenant.defaults, tenant.enforced)
        rows = self._store.rows()
        team = named(rows.teams, "team", tenant.team)
        if any(known.name == tenant.name for known in rows.tenants):
            raise Refused(f"tenant {tenant.name} exists already")
        self._insert_tenant(tenant, team.team_id, self._store.scopes())
        return self._note("tenant add", tenant.name, after=tenant_facts(tenant))

    def _insert_tenant(self, tenant: NewTenant, team_id: int, scopes: Container[str]) -> None:
        """A name that was another tenant's gets a scope of its own, so that no key and no body is taken for one of that
        tenant's. `scopes`: all that there were.
        """
        scope = f"{tenant.name}#{self._clock.random_bytes(4).hex()}" if tenant.name in scopes else None
        values = {**msgspec.structs.asdict(tenant), "team_id": team_id, "scope": scope}
        self._store.insert_tenant({**values, "created_ms": self._clock.wall_ms()})

    def _alter_tenant(self, before: Tenant, after: Tenant, action: str) -> Tenant:
        if after != before:
            self._change_tenant(before, after, action)
        return after

    def _change_tenant(self, before: Tenant, after: Tenant, action: str) -> Noted:
        self._store.set_tenant(after)
        return self._note(action, after.name, before=tenant_facts(before), after=tenant_facts(after))

    def _drop_tenant(self, name: str) -> Noted:
        rows = self._store.rows()
        tenant = named(rows.tenants, "tenant", name)
        if fault := self._unsettled_of_tenant(tenant):
            raise Refused(fault)
        tokens = [token.token_id for token in rows.tokens if token.tenant_id == tenant.tenant_id]
        self._store.remove_tenant(tenant.tenant_id, self._clock.wall_ms())
        return self._note("tenant remove", name, before={**tenant_facts(tenant), "tokens": tokens})

    def _unsettled_of_tenant(self, tenant: Tenant) -> str | None:
        unsettled = self._store.unsettled(tenant_id=tenant.tenant_id)
        if not unsettled:
            return None
        return f"tenant {tenant.name} has {orders(unsettled)} that nobody is sure of: ordergate orders reconcile"
