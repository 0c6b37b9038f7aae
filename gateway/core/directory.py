"""Teams, upstream keys, tenants and tokens as values: what the ledger stores and the broker decides with."""

from typing import Final, Literal

import msgspec

KeyState = Literal["standby", "active", "retiring", "revoked", "refused"]
DAY_MS: Final = 86_400_000

TenantState = Literal["active", "suspended"]


class Team(msgspec.Struct, frozen=True, kw_only=True):
    """An OfferGrid account."""

    team_id: int
    name: str
    created_ms: int


class UpstreamKey(msgspec.Struct, frozen=True, kw_only=True):
    """One of a team's keys. `sealed_key` is bound to its table, its team and `key_id`, and the column `key`.

    `verified_ms`: when OfferGrid was last seen to accept it. `same_account`: it is of the team's OfferGrid account, as
    far as is known; orders that are sent with any other are looked for where they are not.
    """

    key_id: str
    team_id: int
    state: KeyState
    sealed_key: bytes
    per_minute: int | None
    per_hour: int | None
    created_ms: int
    verified_ms: int | None = None
    same_account: bool = True

    @property
    def is_usable(self) -> bool:
        """Whether orders may be sent with it where the active one is refused."""
        if not self.same_account:
            return False
        return self.state in ("active", "retiring") or (self.state == "standby" and self.verified_ms is not None)


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """A caller. `defaults` and `enforced` map metadata member names to JSON texts.

    `scope`: what its keys and bodies are digested with. It is the name, so that a ledger which has lost the tenant can
    know its orders again; the id where the tenant is older than this rule. No name looks like an id.
    """

    tenant_id: int
    name: str
    scope: str
    team_id: int
    team: str
    state: TenantState
    require_idempotency_key: bool
    guaranteed_per_minute: int | None
    implicit_window_s: int | None
    defaults: dict[str, str]
    enforced: dict[str, str]
    created_ms: int


class TokenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A token without its secret. `digest` is the keyed hash of the secret.

    `last_used_day`: when it was last shown and taken, in days since 1970, UTC; None where that was never noted.
    """

    token_id: str
    tenant_id: int
    digest: bytes
    created_ms: int
    expires_ms: int | None
    revoked_ms: int | None
    last_used_day: int | None = None


class DirectoryRows(msgspec.Struct, frozen=True, kw_only=True):
    """All of it at one `version`, read in one transaction.

    `master_version`: the version of the master key that the ledger stands under; 1 where none is written down.
    """

    version: int
    teams: tuple[Team, ...]
    keys: tuple[UpstreamKey, ...]
    tenants: tuple[Tenant, ...]
    tokens: tuple[TokenRecord, ...]
    master_version: int = 1
