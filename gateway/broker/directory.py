"""The directory in memory: who a token belongs to, and which key that tenant's team lends.

One immutable snapshot, replaced whole when the ledger's directory has moved. Nothing here waits or reads.
"""

import hmac
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec
from msgspec import structs

from gateway.broker.vault import Secret
from gateway.clock import Clock
from gateway.core.budget_terms import Limits, Terms, terms_of
from gateway.core.directory import DAY_MS, DirectoryRows, KeyState, Tenant, TokenRecord, UpstreamKey
from gateway.core.tokens import parse
from gateway.errors import BadSettings, MasterKeyMissing, SealBroken

TOKEN_PURPOSE: Final = "token"
KEYS_TABLE: Final = "upstream_keys"
KEY_COLUMN: Final = "key"

AuthFailure = Literal["missing", "malformed", "unknown", "wrong_secret", "revoked", "expired"]


class Opens(Protocol):
    """The part of the vault that is needed here."""

    def open_secret(self, sealed: bytes, *, table: str, row: str, column: str) -> Secret: ...
    def mac(self, purpose: Literal["token"], data: bytes) -> bytes: ...


class LentKey(msgspec.Struct, frozen=True, kw_only=True):
    """A team's key, ready for the transport. `terms`: what it may carry; None where nobody counts."""

    key_id: str
    secret: Secret
    terms: Terms | None = None


class KeyUnreadable(msgspec.Struct, frozen=True, kw_only=True):
    """The key is there, and its record cannot be opened: never send a placeholder."""

    key_id: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """`behind`: why the master key that the keys' records are under cannot be had, in one line; None where it can."""

    version: int
    rows: DirectoryRows
    tokens: Mapping[str, TokenRecord]
    tenants: Mapping[int, Tenant]
    keys: Mapping[int, Sequence[LentKey | KeyUnreadable]]
    behind: str | None


class Directory:
    """Holds the current snapshot. `replace` swaps it; everything else only looks."""

    def __init__(self, rows: DirectoryRows, vault: Opens, clock: Clock, limits: Limits | None = None) -> None:
        """`limits`: of the keys that have none of their own; None: nothing is counted."""
        self._vault = vault
        self._clock = clock
        self._limits = limits
        self._no_such_token = vault.mac(TOKEN_PURPOSE, b"")
        self._now = _snapshot(rows, vault, limits, {})
        self._used: dict[str, int] = {}
        self._unwritten: dict[str, int] = {}

    @property
    def snapshot(self) -> Snapshot:
        return self._now

    def replace(self, rows: DirectoryRows) -> None:
        """From now on these. A key whose master key cannot be had is lent as it was opened before, if it was."""
        opened = {
            (team_id, key.key_id): key
            for team_id, keys in self._now.keys.items()
            for key in keys
            if isinstance(key, LentKey)
        }
        self._now = _snapshot(rows, self._vault, self._limits, opened)

    def authenticate(self, shown: str) -> Tenant | AuthFailure:
        """The tenant whose token this is, or why it is none's; the same work for every well-formed token."""
        token = parse(shown)
        if token is None:
            return "malformed"
        now = self._now
        record = now.tokens.get(token.token_id)
        digest = self._vault.mac(TOKEN_PURPOSE, token.secret.encode("ascii"))
        same = hmac.compare_digest(digest, record.digest if record else self._no_such_token)
        if record is None:
            return "unknown"
        if not same:
            return "wrong_secret"
        if record.revoked_ms is not None:
            return "revoked"
        if record.expires_ms is not None and record.expires_ms <= self._clock.wall_ms():
            return "expired"
        self._note_use(record)
        return now.tenants[record.tenant_id]

    def take_used(self) -> dict[str, int]:
        """The tokens that were shown for the first time on their day since this was last asked, with that day."""
        taken, self._unwritten = self._unwritten, {}
        return taken

    def give_back_used(self, taken: Mapping[str, int]) -> None:
        """They could not be written down, and are given again."""
        self._unwritten = {**taken, **self._unwritten}

    def _note_use(self, record: TokenRecord) -> None:
        """On an order's way: nothing is written here, and of a token that was seen today nothing is noted."""
        day = self._clock.wall_ms() // DAY_MS
        if day > self._used.get(record.token_id, record.last_used_day or 0):
            self._used[record.token_id] = self._unwritten[record.token_id] = day

    def key_of(self, team_id: int) -> LentKey | KeyUnreadable | None:
        """The team's active key, else another usable one; None where it has none."""
        return next(iter(self._now.keys.get(team_id, ())), None)

    def key_beside(self, team_id: int, tried: Container[str]) -> LentKey | None:
        """A usable key of the team that is none of `tried` (ids)."""
        keys = (key for key in self._now.keys.get(team_id, ()) if isinstance(key, LentKey))
        return next((key for key in keys if key.key_id not in tried), None)

    def teams(self) -> list[tuple[int, str]]:
        """Every team's id and name."""
        return [(team.team_id, team.name) for team in self._now.rows.teams]


Opened = Mapping[tuple[int, str], LentKey]
"""Keys by team and id."""


def _snapshot(rows: DirectoryRows, vault: Opens, limits: Limits | None, opened: Opened) -> Snapshot:
    keys, behind = _usable(rows, vault, limits, opened)
    return Snapshot(
        version=rows.version,
        rows=rows,
        tokens={token.token_id: token for token in rows.tokens},
        tenants={tenant.tenant_id: tenant for tenant in rows.tenants},
        keys=keys,
        behind=behind,
    )


_FIRST: Final[Sequence[KeyState]] = ("active", "retiring", "standby")


def _usable(
    rows: DirectoryRows, vault: Opens, limits: Limits | None, opened: Opened
) -> tuple[dict[int, list[LentKey | KeyUnreadable]], str | None]:
    """Each team's usable keys: the active one first, then what was active lately, then what stands by."""
    found: dict[int, list[LentKey | KeyUnreadable]] = {}
    behind: str | None = None
    parts: defaultdict[int, dict[int, int | None]] = defaultdict(dict)
    for tenant in rows.tenants:
        if tenant.state == "active":
            parts[tenant.team_id][tenant.tenant_id] = tenant.guaranteed_per_minute
    for key in sorted((key for key in rows.keys if key.is_usable), key=lambda key: _FIRST.index(key.state)):
        lent: LentKey | KeyUnreadable
        try:
            lent = KeyUnreadable(key_id=key.key_id) if _put_back(key, rows.master_version) else _open(key, vault)
        except (MasterKeyMissing, BadSettings) as fault:
            # Nothing is wrong with the record: the master key was rotated, and this process cannot follow yet.
            behind = str(fault)
            lent = opened.get((key.team_id, key.key_id)) or KeyUnreadable(key_id=key.key_id)
        found.setdefault(key.team_id, []).append(_counted(lent, key, limits, parts[key.team_id]))
    return found, behind


def _put_back(key: UpstreamKey, master_version: int) -> bool:
    """Whether its record is from before the ledger's last rotation, which sealed all of them anew: this process may not
    have seen the ledger stand under the newer version yet.
    """
    return int.from_bytes(key.sealed_key[1:3], "big") < master_version


def open_key(key: UpstreamKey, vault: Opens, limits: Limits) -> LentKey | KeyUnreadable:
    """For reads alone: no tenant has a part of it. Raises BadSettings where the master key's file cannot be read."""
    try:
        return _counted(_open(key, vault), key, limits, {})
    except MasterKeyMissing:
        return KeyUnreadable(key_id=key.key_id)


def _counted(
    lent: LentKey | KeyUnreadable, key: UpstreamKey, limits: Limits | None, parts: Mapping[int, int | None]
) -> LentKey | KeyUnreadable:
    """With what it may carry. `parts`: see `core.budget_terms.terms_of`."""
    if limits is None or isinstance(lent, KeyUnreadable):
        return lent
    terms = terms_of(key.key_id, limits, parts, per_minute=key.per_minute, per_hour=key.per_hour)
    return structs.replace(lent, terms=terms)


def _open(key: UpstreamKey, vault: Opens) -> LentKey | KeyUnreadable:
    """Raises MasterKeyMissing or BadSettings where the master key that it is under cannot be had."""
    row = row_of_key(key.team_id, key.key_id)
    try:
        secret = vault.open_secret(key.sealed_key, table=KEYS_TABLE, row=row, column=KEY_COLUMN)
    except MasterKeyMissing:
        raise
    except SealBroken:
        return KeyUnreadable(key_id=key.key_id)
    return LentKey(key_id=key.key_id, secret=secret)


def row_of_key(team_id: int, key_id: str) -> str:
    """The row that an upstream key's record is bound to: its team is part of it, so that no other team can lend it."""
    return f"{team_id}/{key_id}"
