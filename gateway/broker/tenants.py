"""Administering tenants: the services that send orders."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gateway.broker.office import Noted, Office, named, orders
from gateway.core.directory import Tenant, TenantState
from gateway.core.tenancy import NewTenant, require_metadata, require_name, require_numbers, tenant_facts
from gateway.errors import Refused

_STATE_ACTIONS: Final[Mapping[TenantState, str]] = {"active": "tenant resume", "suspended": "tenant suspend"}


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
            return self._alter_tenant(tenant, msgspec.structs.replace(tenant, state=state), _STATE_ACTIONS[state])

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
        """Inside the caller's transaction, as all that follows. A name that was another tenant's gets a scope of its
        own, so that no key and no body is taken for one of that tenant's.
        """
        require_name(tenant.name)
        require_numbers(
            guaranteed_per_minute=tenant.guaranteed_per_minute, implicit_window_s=tenant.implicit_window_s
        )
        require_metadata(tenant.defaults, tenant.enforced)
        rows = self._store.rows()
        team = named(rows.teams, "team", tenant.team)
        if any(known.name == tenant.name for known in rows.tenants):
            raise Refused(f"tenant {tenant.name} exists already")
        taken = tenant.name in self._store.scopes()
        scope = f"{tenant.name}#{self._clock.random_bytes(4).hex()}" if taken else None
        values = {**msgspec.structs.asdict(tenant), "team_id": team.team_id, "scope": scope}
        self._store.insert_tenant({**values, "created_ms": self._clock.wall_ms()})
        return self._note("tenant add", tenant.name, after=tenant_facts(tenant))

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
        if unsettled := self._store.unsettled(tenant_id=tenant.tenant_id):
            raise Refused(
                f"tenant {name} has {orders(unsettled)} that nobody is sure of: ordergate orders reconcile"
            )
        tokens = [token.token_id for token in rows.tokens if token.tenant_id == tenant.tenant_id]
        self._store.remove_tenant(tenant.tenant_id, self._clock.wall_ms())
        return self._note("tenant remove", name, before={**tenant_facts(tenant), "tokens": tokens})
