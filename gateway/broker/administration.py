"""Teams, keys, tenants and tokens: every rule of administering them, for whatever face asks.

Synchronous and small; the command line calls it on a connection of its own. Each change is one durable transaction,
and acts on every running instance within a second. `Refused` says what cannot be done; nothing is half done.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec

from gateway.broker.directory import KEY_COLUMN, KEYS_TABLE, TOKEN_PURPOSE
from gateway.broker.vault import Secret
from gateway.clock import Clock
from gateway.core.directory import DirectoryRows, Team, Tenant, TenantState, TokenRecord, UpstreamKey
from gateway.core.enrich import is_reserved
from gateway.core.json_text import read_object
from gateway.core.tokens import ID_BYTES, SECRET_BYTES, Token, mint
from gateway.errors import BadRequest, BadUsage, Refused

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}", re.ASCII)
_KEY: Final = re.compile(r"[\x21-\x7e]{8,512}", re.ASCII)
"""What can stand in a header and cannot be a slip of the hand. OfferGrid documents no form."""

MAX_EXPIRY_S: Final = 10 * 365 * 86_400
MAX_NUMBER: Final = 1_000_000_000
"""Calls or seconds: beyond what any limit or window can mean."""


class Store(Protocol):
    """What administration needs of a storage. All writes stand inside `change()`."""

    def change(self) -> AbstractContextManager[None]: ...
    def rows(self) -> DirectoryRows: ...
    def insert_team(self, name: str, created_ms: int) -> None: ...
    def insert_key(self, key: UpstreamKey) -> None: ...
    def verify_key(self, key_id: str, verified_ms: int) -> None: ...
    def refuse_key(self, key_id: str, at_ms: int) -> bool: ...
    def insert_tenant(self, tenant: Mapping[str, Any]) -> None: ...
    def set_tenant_state(self, tenant_id: int, state: TenantState) -> None: ...
    def set_metadata(self, tenant_id: int, defaults: Mapping[str, str], enforced: Mapping[str, str]) -> None: ...
    def insert_token(self, token: TokenRecord) -> None: ...
    def revoke_token(self, token_id: str, revoked_ms: int) -> None: ...


class SealsKeys(Protocol):
    def seal_secret(self, secret: Secret, *, table: str, row: str, column: str) -> bytes: ...
    def mac(self, purpose: Literal["token"], data: bytes) -> bytes: ...


class NewTenant(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant is made with. None: as the settings say."""

    name: str
    team: str
    require_idempotency_key: bool = False
    guaranteed_per_minute: int | None = None
    implicit_window_s: int | None = None


class IssuedToken(msgspec.Struct, frozen=True, kw_only=True):
    """The only moment at which a token's secret exists outside the tenant."""

    record: TokenRecord
    token: Token
    tenant: str


class Administration:
    def __init__(self, store: Store, vault: SealsKeys, clock: Clock) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock

    def add_team(self, name: str) -> Team:
        _check_name(name)
        with self._store.change():
            if any(team.name == name for team in self._store.rows().teams):
                raise Refused(f"team {name} exists already")
            self._store.insert_team(name, self._clock.wall_ms())
            return _named(self._store.rows().teams, "team", name)

    def teams(self) -> Sequence[Team]:
        return self._store.rows().teams

    def add_key(
        self, team: str, key: Secret, *, per_minute: int | None = None, per_hour: int | None = None
    ) -> UpstreamKey:
        """A team's first key becomes active, later ones stand by."""
        if not key.matches(_KEY):
            raise BadUsage("an upstream key is 8 to 512 visible ASCII characters, on one line")
        _check_numbers(per_minute=per_minute, per_hour=per_hour)
        with self._store.change():
            rows = self._store.rows()
            owner = _named(rows.teams, "team", team)
            mine = [known for known in rows.keys if known.team_id == owner.team_id]
            key_id = self._fresh_id("key")
            record = UpstreamKey(
                key_id=key_id,
                team_id=owner.team_id,
                state="standby" if mine else "active",
                sealed_key=self._vault.seal_secret(key, table=KEYS_TABLE, row=key_id, column=KEY_COLUMN),
                per_minute=per_minute,
                per_hour=per_hour,
                created_ms=self._clock.wall_ms(),
            )
            self._store.insert_key(record)
        return record

    def keys(self, team: str) -> Sequence[UpstreamKey]:
        rows = self._store.rows()
        owner = _named(rows.teams, "team", team)
        return [key for key in rows.keys if key.team_id == owner.team_id]

    def key(self, team: str, key_id: str) -> UpstreamKey:
        for key in self.keys(team):
            if key.key_id == key_id:
                return key
        raise Refused(f"team {team} has no key {key_id}")

    def key_was_tried(self, team: str, key_id: str, *, accepted: bool) -> UpstreamKey:
        """What a read with the key has shown: OfferGrid accepts it, and a refused one stands by again; or it does not,
        and no order is sent with it. A revoked one stays as it is.
        """
        with self._store.change():
            key = self.key(team, key_id)
            if accepted:
                self._store.verify_key(key.key_id, self._clock.wall_ms())
            else:
                self._store.refuse_key(key.key_id, self._clock.wall_ms())
            return self.key(team, key_id)

    def add_tenant(self, tenant: NewTenant) -> Tenant:
        _check_name(tenant.name)
        _check_numbers(
            guaranteed_per_minute=tenant.guaranteed_per_minute, implicit_window_s=tenant.implicit_window_s
        )
        with self._store.change():
            rows = self._store.rows()
            team = _named(rows.teams, "team", tenant.team)
            if any(known.name == tenant.name for known in rows.tenants):
                raise Refused(f"tenant {tenant.name} exists already")
            values = msgspec.structs.asdict(tenant)
            del values["team"]
            values["require_idempotency_key"] = int(tenant.require_idempotency_key)
            self._store.insert_tenant({**values, "team_id": team.team_id, "created_ms": self._clock.wall_ms()})
            return self.tenant(tenant.name)

    def tenants(self) -> Sequence[Tenant]:
        return self._store.rows().tenants

    def tenant(self, name: str) -> Tenant:
        return _named(self._store.rows().tenants, "tenant", name)

    def set_tenant_state(self, name: str, state: TenantState) -> Tenant:
        with self._store.change():
            self._store.set_tenant_state(self.tenant(name).tenant_id, state)
            return self.tenant(name)

    def set_metadata(self, name: str, *, defaults: Mapping[str, str], enforced: Mapping[str, str]) -> Tenant:
        """Replaces both lists. Values are JSON texts and are kept as they are spelled."""
        for member, text in (*defaults.items(), *enforced.items()):
            _check_metadata(member, text)
        with self._store.change():
            self._store.set_metadata(self.tenant(name).tenant_id, defaults, enforced)
            return self.tenant(name)

    def issue_token(self, tenant: str, *, expires_in_s: int | None = None) -> IssuedToken:
        if expires_in_s is not None and not 0 < expires_in_s <= MAX_EXPIRY_S:
            raise BadUsage("a token expires in more than nothing and in 10 years at most")
        token = mint(self._clock.random_bytes(ID_BYTES), self._clock.random_bytes(SECRET_BYTES))
        now_ms = self._clock.wall_ms()
        with self._store.change():
            record = TokenRecord(
                token_id=token.token_id,
                tenant_id=self.tenant(tenant).tenant_id,
                digest=self._vault.mac(TOKEN_PURPOSE, token.secret.encode("ascii")),
                created_ms=now_ms,
                expires_ms=None if expires_in_s is None else now_ms + 1000 * expires_in_s,
                revoked_ms=None,
            )
            self._store.insert_token(record)
        return IssuedToken(record=record, token=token, tenant=tenant)

    def tokens(self, tenant: str) -> Sequence[TokenRecord]:
        owner = self.tenant(tenant)
        return [token for token in self._store.rows().tokens if token.tenant_id == owner.tenant_id]

    def revoke_token(self, token_id: str) -> TokenRecord:
        """Revoking one that is revoked already changes nothing, and is no fault."""
        with self._store.change():
            if token_id not in {token.token_id for token in self._store.rows().tokens}:
                raise Refused(f"there is no token {token_id}")
            self._store.revoke_token(token_id, self._clock.wall_ms())
            return next(token for token in self._store.rows().tokens if token.token_id == token_id)

    def _fresh_id(self, prefix: str) -> str:
        return f"{prefix}-{self._clock.random_bytes(6).hex()}"


Named = TypeVar("Named", Team, Tenant)


def _named(things: Sequence[Named], kind: str, name: str) -> Named:
    for thing in things:
        if thing.name == name:
            return thing
    raise Refused(f"there is no {kind} {name}")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadUsage(f"{name!r} is no name: a lower-case letter, then up to 62 lower-case letters, digits or '-'")


def _check_numbers(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and not 0 <= number <= MAX_NUMBER:
            raise BadUsage(f"{name} is 0 to {MAX_NUMBER}, not {number}")


def _check_metadata(member: str, text: str) -> None:
    try:
        member.encode()
    except UnicodeEncodeError as fault:  # an argument of the command line that was no UTF-8
        raise BadUsage(f"{member!a} is no text, so it cannot be a metadata member's name") from fault
    if is_reserved(member):
        raise BadUsage(f"{member}: names that begin with 'gateway' are the gateway's own")
    try:
        # Where it will stand in an order, so that no order is nested too deep by it.
        (metadata,) = read_object(f'{{"metadata":{{"value":{text}}}}}'.encode()).members
        alone = len(metadata.value) == 1
    except (BadRequest, UnicodeEncodeError, ValueError):  # ValueError: it closed the braces around it
        alone = False
    if not alone:
        raise BadUsage(f"{member}: the value is not JSON (a text needs its quotes)")
