"""The statements of teams, keys, tenants and tokens, and of the ledger's own facts (`meta`).

Synchronous, on a connection of its own: the command line works whether or not a gateway runs on the same storage.
Every change raises `directory_version` in its own transaction; running instances see it move, and reload.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import apsw
import msgspec

from gateway.core.directory import DirectoryRows, Team, Tenant, TenantState, TokenRecord, UpstreamKey
from gateway.ledger.sqlite_engine import close, transaction

_TEAMS: Final = "SELECT team_id, name, created_ms FROM teams ORDER BY name"
_KEYS: Final = """
SELECT key_id, team_id, state, sealed_key, per_minute, per_hour, created_ms, verified_ms FROM upstream_keys
ORDER BY created_ms, key_id
"""
_TENANTS: Final = """
SELECT tenant_id, tenants.name AS name, coalesce(scope, tenants.name) AS scope, team_id, teams.name AS team, state,
       require_idempotency_key, guaranteed_per_minute, implicit_window_s, defaults, enforced,
       tenants.created_ms AS created_ms
FROM tenants JOIN teams USING (team_id) ORDER BY tenants.name
"""
_TOKENS: Final = """
SELECT token_id, tenant_id, digest, created_ms, expires_ms, revoked_ms FROM tokens ORDER BY created_ms, token_id
"""
_ADD_KEY: Final = """
INSERT INTO upstream_keys (key_id, team_id, state, sealed_key, per_minute, per_hour, created_ms)
VALUES (:key_id, :team_id, :state, :sealed_key, :per_minute, :per_hour, :created_ms)
"""
_VERIFY_KEY: Final = """
UPDATE upstream_keys SET verified_ms = :verified_ms, state = iif(state = 'refused', 'standby', state)
WHERE key_id = :key_id AND state <> 'revoked'
"""
_REFUSE_KEY: Final = """
UPDATE upstream_keys SET state = 'refused', verified_ms = NULL
WHERE key_id = ? AND state IN ('active', 'standby', 'retiring') RETURNING team_id
"""
_AUDIT: Final = "INSERT INTO audit (at_ms, who, action, subject, change) VALUES (?, ?, ?, ?, ?)"
_RAISE: Final = "UPDATE meta SET value = value + 1 WHERE name = 'directory_version'"
_ADD_TENANT: Final = """
INSERT INTO tenants (name, team_id, state, require_idempotency_key, guaranteed_per_minute, implicit_window_s,
                     defaults, enforced, created_ms)
VALUES (:name, :team_id, 'active', :require_idempotency_key, :guaranteed_per_minute, :implicit_window_s,
        '{}', '{}', :created_ms)
"""
_ADD_TOKEN: Final = """
INSERT INTO tokens (token_id, tenant_id, digest, created_ms, expires_ms)
VALUES (:token_id, :tenant_id, :digest, :created_ms, :expires_ms)
"""


class SqliteDirectory:
    """The directory's storage on one connection, which must not be shared between threads at a time."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        close(self._connection)

    @contextmanager
    def change(self) -> Iterator[None]:
        """One change: durable when the block is left, and seen by every instance within a second."""
        with transaction(self._connection):
            yield
            self._connection.execute(_RAISE)

    def version(self) -> int:
        """Moves with every change. Cheap enough to ask several times a second."""
        found: int = self._connection.execute("SELECT value FROM meta WHERE name = 'directory_version'").get
        return found

    def rows(self) -> DirectoryRows:
        """Everything, as of one moment."""
        with self._connection:
            found = DirectoryRows(
                version=self.version(),
                teams=tuple(Team(**row) for row in self._select(_TEAMS)),
                keys=tuple(UpstreamKey(**row) for row in self._select(_KEYS)),
                tenants=tuple(_tenant(row) for row in self._select(_TENANTS)),
                tokens=tuple(TokenRecord(**row) for row in self._select(_TOKENS)),
            )
        return found  # noqa: RET504 - mypy cannot know that apsw's block never swallows an error

    def fact(self, name: str) -> Any:
        """One of the ledger's own facts, or None."""
        return self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).get

    def keep_fact(self, name: str, value: str | bytes) -> None:
        """Writes a fact unless it stands already: of several processes that start at once, one wins."""
        with transaction(self._connection):
            self._connection.execute("INSERT OR IGNORE INTO meta (name, value) VALUES (?, ?)", (name, value))

    def insert_team(self, name: str, created_ms: int) -> None:
        self._connection.execute("INSERT INTO teams (name, created_ms) VALUES (?, ?)", (name, created_ms))

    def insert_key(self, key: UpstreamKey) -> None:
        self._connection.execute(_ADD_KEY, msgspec.structs.asdict(key))

    def verify_key(self, key_id: str, verified_ms: int) -> None:
        self._connection.execute(_VERIFY_KEY, {"key_id": key_id, "verified_ms": verified_ms})

    def refuse_key(self, key_id: str, at_ms: int) -> bool:
        return refuse_key(self._connection, key_id, at_ms)

    def insert_tenant(self, tenant: Mapping[str, Any]) -> None:
        self._connection.execute(_ADD_TENANT, dict(tenant))

    def set_tenant_state(self, tenant_id: int, state: TenantState) -> None:
        self._connection.execute("UPDATE tenants SET state = ? WHERE tenant_id = ?", (state, tenant_id))

    def set_metadata(self, tenant_id: int, defaults: Mapping[str, str], enforced: Mapping[str, str]) -> None:
        self._connection.execute(
            "UPDATE tenants SET defaults = ?, enforced = ? WHERE tenant_id = ?",
            (_texts(defaults), _texts(enforced), tenant_id),
        )

    def insert_token(self, token: TokenRecord) -> None:
        values = msgspec.structs.asdict(token)
        del values["revoked_ms"]
        self._connection.execute(_ADD_TOKEN, values)

    def revoke_token(self, token_id: str, revoked_ms: int) -> None:
        self._connection.execute(
            "UPDATE tokens SET revoked_ms = ? WHERE token_id = ? AND revoked_ms IS NULL", (revoked_ms, token_id)
        )

    def _select(self, statement: str) -> Iterator[dict[str, Any]]:
        cursor = self._connection.execute(statement)
        for row in cursor:
            yield {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def refuse_key(connection: apsw.Connection, key_id: str, at_ms: int) -> bool:
    """OfferGrid said 401 to it: not used until it is verified. Inside the caller's transaction, with its audit row.
    Whether this changed anything: of many orders that meet it, one does.
    """
    if connection.execute(_REFUSE_KEY, (key_id,)).fetchone() is None:
        return False
    connection.execute(_RAISE)
    change = {"to": "refused", "reason": "OfferGrid said 401"}
    audit(connection, at_ms=at_ms, who="gateway", action="key.refused", subject=key_id, change=change)
    return True


def audit(
    connection: apsw.Connection, *, at_ms: int, who: str, action: str, subject: str, change: Mapping[str, Any]
) -> None:
    """One row of the audit log, in the transaction of the change that it tells. `change` holds no secret."""
    connection.execute(_AUDIT, (at_ms, who, action, subject, msgspec.json.encode(change).decode()))


def _tenant(row: dict[str, Any]) -> Tenant:
    row["require_idempotency_key"] = bool(row["require_idempotency_key"])
    row["defaults"] = msgspec.json.decode(row["defaults"], type=dict[str, str])
    row["enforced"] = msgspec.json.decode(row["enforced"], type=dict[str, str])
    return Tenant(**row)


def _texts(members: Mapping[str, str]) -> str:
    """Names to JSON texts, themselves as JSON: the spelling of a number survives."""
    return msgspec.json.encode(dict(members)).decode()
