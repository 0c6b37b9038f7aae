"""What every part of administration stands on: the storage, the clock, and the audit row that goes with each change."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from gateway.broker.vault import Secret
from gateway.clock import Clock
from gateway.core.audit import AuditRow, Marks, Verified
from gateway.core.directory import DirectoryRows, Team, Tenant, TokenRecord, UpstreamKey
from gateway.core.tenants_plan import Told
from gateway.errors import NoSuch
from gateway.settings import Budget


class Store(Protocol):
    """What administration needs of a storage. All writes stand inside `change()`."""

    def change(self) -> AbstractContextManager[None]: ...
    def version(self) -> int: ...
    def rows(self) -> DirectoryRows: ...
    def insert_team(self, name: str, created_ms: int) -> int: ...
    def remove_team(self, team_id: int) -> None: ...
    def insert_key(self, key: UpstreamKey) -> None: ...
    def verify_key(self, key_id: str, verified_ms: int) -> None: ...
    def disown_key(self, key_id: str) -> None: ...
    def refuse_key(self, key_id: str) -> bool: ...
    def activate_key(self, team_id: int, key_id: str, verified_ms: int, *, new_account: bool) -> None: ...
    def revoke_key(self, key_id: str) -> None: ...
    def placed_of_team(self, team_id: int) -> frozenset[str]: ...
    def insert_tenant(self, tenant: Mapping[str, Any]) -> None: ...
    def set_tenant(self, tenant: Tenant) -> None: ...
    def remove_tenant(self, tenant_id: int, removed_ms: int) -> None: ...
    def scopes(self) -> frozenset[str]: ...
    def unsettled(self, *, team_id: int | None = None, tenant_id: int | None = None) -> int: ...
    def insert_token(self, token: TokenRecord) -> None: ...
    def revoke_token(self, token_id: str, revoked_ms: int) -> None: ...
    def audit_all(
        self, marks: Marks, *, at_ms: int, who: str, changes: Iterable[tuple[str, str, Mapping[str, Any]]]
    ) -> None: ...
    def audited(self, *, before: int | None, limit: int) -> Sequence[AuditRow]: ...
    def verify_chain(self, marks: Marks) -> Verified: ...


class Keeps(Protocol):
    """The part of the vault that administration needs."""

    def seal_secret(self, secret: Secret, *, table: str, row: str, column: str, version: int) -> bytes: ...
    def mac(self, purpose: Literal["token", "audit"], data: bytes) -> bytes: ...


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """One change as the audit log tells it. `change` holds `from`, `to` and what else there is to know."""

    action: str
    subject: str
    change: Mapping[str, Any]


class Office:
    """`who` makes the changes: a user of the operating system, or `admin-token`. `budget`: what keys carry that have no
    limits of their own; None: nobody asks. Belongs to one thread.
    """

    def __init__(self, store: Store, vault: Keeps, clock: Clock, *, who: str, budget: Budget | None = None) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._who = who
        self._budget = budget

    def _note(
        self,
        action: str,
        subject: str,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Noted:
        """Writes the audit row of a change, in its transaction; see `noted`."""
        found = noted(Told(action=action, subject=subject, before=before, after=after), **more)
        self._note_all([found])
        return found

    def _note_all(self, changes: Iterable[Noted]) -> None:
        """Writes the audit rows of these changes, in their transaction."""
        rows = ((change.action, change.subject, change.change) for change in changes)
        self._store.audit_all(self._vault, at_ms=self._clock.wall_ms(), who=self._who, changes=rows)


def noted(told: Told, **more: Any) -> Noted:
    """A change as it stands in the audit log: of what stayed as it was nothing is told."""
    before, after = told.before, told.after
    if before is not None and after is not None:
        moved = [name for name in after if before.get(name) != after[name]]
        before, after = ({name: facts.get(name) for name in moved} for facts in (before, after))
    return Noted(action=told.action, subject=told.subject, change={**more, "from": before, "to": after})


Named = TypeVar("Named", Team, Tenant)


def named(things: Sequence[Named], kind: str, name: str) -> Named:
    """The one of that name. NoSuch where there is none."""
    for thing in things:
        if thing.name == name:
            return thing
    raise NoSuch(f"there is no {kind} {name}")


def orders(count: int) -> str:
    """`1 order` or `2 orders`."""
    return f"{count} order{'' if count == 1 else 's'}"
