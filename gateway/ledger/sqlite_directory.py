"""The statements of teams, keys, tenants and tokens, and of the ledger's own facts (`meta`).

Synchronous, on a connection of its own: the command line works whether or not a gateway runs on the same storage.
Every change raises `directory_version` in its own transaction; running instances see it move, and reload.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import apsw
import msgspec

from gateway.core.audit import AuditRow, Marks, Verified
from gateway.core.directory import DirectoryRows, Team, Tenant, TokenRecord, UpstreamKey
from gateway.ledger.sqlite_audit import audit, audit_all, begin_chain, page, verify_chain
from gateway.ledger.sqlite_engine import close, patient, transaction

_TEAMS: Final = "SELECT team_id, name, created_ms FROM teams ORDER BY name"
_KEYS: Final = """
SELECT key_id, team_id, state, sealed_key, per_minute, per_hour, upstream_keys.created_ms AS created_ms, verified_ms,
       upstream_keys.account = teams.account AS same_account
FROM upstream_keys JOIN teams USING (team_id) ORDER BY upstream_keys.created_ms, key_id
"""
_TENANTS: Final = """
SELECT tenant_id, tenants.name AS name, coalesce(scope, tenants.name) AS scope, team_id, teams.name AS team, state,
       require_idempotency_key, guaranteed_per_minute, implicit_window_s, defaults, enforced,
       tenants.created_ms AS created_ms
FROM tenants JOIN teams USING (team_id) ORDER BY tenants.name
"""
_TOKENS: Final = """
SELECT token_id, tenant_id, digest, created_ms, expires_ms, revoked_ms, last_used_day FROM tokens
ORDER BY created_ms, token_id
"""
_ADD_KEY: Final = """
INSERT INTO upstream_keys (key_id, team_id, state, sealed_key, per_minute, per_hour, created_ms, account)
SELECT :key_id, :team_id, :state, :sealed_key, :per_minute, :per_hour, :created_ms, account
FROM teams WHERE team_id = :team_id
"""
_VERIFY_KEY: Final = """
UPDATE upstream_keys SET verified_ms = :verified_ms, state = iif(state = 'refused', 'standby', state),
                         account = (SELECT account FROM teams WHERE teams.team_id = upstream_keys.team_id)
WHERE key_id = :key_id AND state <> 'revoked'
"""
_DISOWN_KEY: Final = """
UPDATE upstream_keys SET verified_ms = NULL, account = 0 WHERE key_id = ? AND state NOT IN ('active', 'revoked')
"""
_RETIRE_KEY: Final = "UPDATE upstream_keys SET state = 'retiring' WHERE team_id = ? AND state = 'active'"
_ACTIVATE_KEY: Final = """
UPDATE upstream_keys SET state = 'active', verified_ms = :verified_ms,
                         account = (SELECT account FROM teams WHERE teams.team_id = upstream_keys.team_id)
WHERE key_id = :key_id
"""
_NEXT_ACCOUNT: Final = """
UPDATE teams SET account = account + 1, account_tick = (
  SELECT coalesce(max(settled_tick), -1) FROM orders WHERE orders.team_id = teams.team_id AND outcome = 'placed'
)
WHERE team_id = ?
"""
_PLACED: Final = """
SELECT upstream_order_id FROM orders JOIN teams USING (team_id)
WHERE team_id = ? AND outcome = 'placed' AND settled_tick > account_tick ORDER BY seq DESC LIMIT 100000
"""
_REFUSE_KEY: Final = """
UPDATE upstream_keys SET state = 'refused', verified_ms = NULL
WHERE key_id = ? AND state IN ('active', 'standby', 'retiring') RETURNING team_id
"""
_RAISE: Final = "UPDATE meta SET value = value + 1 WHERE name = 'directory_version'"
_ADD_TENANT: Final = """
INSERT INTO tenants (name, team_id, state, require_idempotency_key, guaranteed_per_minute, implicit_window_s,
                     defaults, enforced, created_ms, scope)
VALUES (:name, :team_id, :state, :require_idempotency_key, :guaranteed_per_minute, :implicit_window_s,
        :defaults, :enforced, :created_ms, :scope)
"""
_SET_TENANT: Final = """
UPDATE tenants SET state = :state, require_idempotency_key = :require_idempotency_key,
                   guaranteed_per_minute = :guaranteed_per_minute, implicit_window_s = :implicit_window_s,
                   defaults = :defaults, enforced = :enforced
WHERE tenant_id = :tenant_id
"""
_REMOVE_TENANT: Final = (
    """INSERT INTO removed_tenants (tenant_id, name, scope, team_id, removed_ms)
       SELECT tenant_id, name, coalesce(scope, name), team_id, :removed_ms FROM tenants WHERE tenant_id = :tenant_id""",
    "DELETE FROM tokens WHERE tenant_id = :tenant_id",
    "DELETE FROM tenants WHERE tenant_id = :tenant_id",
)
_UNSETTLED_OF_TENANT: Final = """
SELECT count(*) FROM orders WHERE outcome IN ('queued', 'in_flight', 'unknown') AND tenant_id = ?
"""
_UNSETTLED_OF_TEAM: Final = """
SELECT count(*) FROM orders WHERE outcome IN ('queued', 'in_flight', 'unknown') AND team_id = ?
"""
_SCOPES: Final = """
SELECT scope FROM removed_tenants UNION SELECT name FROM removed_tenants UNION SELECT coalesce(scope, name) FROM tenants
"""
_ADD_TOKEN: Final = """
INSERT INTO tokens (token_id, tenant_id, digest, created_ms, expires_ms)
VALUES (:token_id, :tenant_id, :digest, :created_ms, :expires_ms)
"""
_USE_TOKEN: Final = """
UPDATE tokens SET last_used_day = ?1 WHERE token_id = ?2 AND coalesce(last_used_day, 0) < ?1
"""


class SqliteDirectory:
    """The directory's storage on one connection, which must not be shared between threads at a time."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        close(self._connection)

    def patient(self) -> AbstractContextManager[None]:
        """Changes wait for other processes' writes as long as opening does."""
        return patient(self._connection)

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
                keys=tuple(_key(row) for row in self._select(_KEYS)),
                tenants=tuple(_tenant(row) for row in self._select(_TENANTS)),
                tokens=tuple(TokenRecord(**row) for row in self._select(_TOKENS)),
                master_version=self._master_version(),
            )
        return found  # noqa: RET504 - mypy cannot know that apsw's block never swallows an error

    def fact(self, name: str) -> Any:
        """One of the ledger's own facts, or None."""
        return self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).get

    def keep_fact(self, name: str, value: str | bytes) -> None:
        """Writes a fact unless it stands already: of several processes that start at once, one wins."""
        if self.fact(name) is not None:
            return
        with transaction(self._connection):
            self._connection.execute("INSERT OR IGNORE INTO meta (name, value) VALUES (?, ?)", (name, value))

    def insert_team(self, name: str, created_ms: int) -> int:
        """Its id."""
        self._connection.execute("INSERT INTO teams (name, created_ms) VALUES (?, ?)", (name, created_ms))
        return self._connection.last_insert_rowid()

    def remove_team(self, team_id: int) -> None:
        """With its keys, which are all revoked. Its id is never given again."""
        self._connection.execute("DELETE FROM upstream_keys WHERE team_id = ?", (team_id,))
        self._connection.execute("DELETE FROM teams WHERE team_id = ?", (team_id,))

    def insert_key(self, key: UpstreamKey) -> None:
        self._connection.execute(_ADD_KEY, msgspec.structs.asdict(key))

    def verify_key(self, key_id: str, verified_ms: int) -> None:
        """OfferGrid accepts it, and it is of the team's account."""
        self._connection.execute(_VERIFY_KEY, {"key_id": key_id, "verified_ms": verified_ms})

    def disown_key(self, key_id: str) -> None:
        """It is of another account: no order is sent with it, unless it is the active one."""
        self._connection.execute(_DISOWN_KEY, (key_id,))

    def refuse_key(self, key_id: str) -> bool:
        """Whether that changed anything."""
        return self._connection.execute(_REFUSE_KEY, (key_id,)).fetchone() is not None

    def activate_key(self, team_id: int, key_id: str, verified_ms: int, *, new_account: bool) -> None:
        """The active one becomes `retiring`. With a new account it is usable no more, nor is any other."""
        self._connection.execute(_RETIRE_KEY, (team_id,))
        if new_account:
            self._connection.execute(_NEXT_ACCOUNT, (team_id,))
        self._connection.execute(_ACTIVATE_KEY, {"key_id": key_id, "verified_ms": verified_ms})

    def revoke_key(self, key_id: str) -> None:
        self._connection.execute("UPDATE upstream_keys SET state = 'revoked' WHERE key_id = ?", (key_id,))

    def placed_of_team(self, team_id: int) -> frozenset[str]:
        """The upstream ids of the orders that are known as placed in the team's account."""
        rows: list[Any] = self._connection.execute(_PLACED, (team_id,)).fetchall()
        return frozenset(upstream_order_id for (upstream_order_id,) in rows)

    def insert_tenant(self, tenant: Mapping[str, Any]) -> None:
        """`scope` None: its name."""
        self._connection.execute(_ADD_TENANT, _stored(tenant))

    def set_tenant(self, tenant: Tenant) -> None:
        """All that can be changed of it."""
        self._connection.execute(_SET_TENANT, _stored(msgspec.structs.asdict(tenant)))

    def remove_tenant(self, tenant_id: int, removed_ms: int) -> None:
        """With its tokens. Its id and its scope are never another tenant's."""
        for statement in _REMOVE_TENANT:
            self._connection.execute(statement, {"tenant_id": tenant_id, "removed_ms": removed_ms})

    def scopes(self) -> frozenset[str]:
        """Every scope that was ever a tenant's, and every name that a tenant had which is gone."""
        rows: list[Any] = self._connection.execute(_SCOPES).fetchall()
        return frozenset(scope for (scope,) in rows)

    def unsettled(self, *, team_id: int | None = None, tenant_id: int | None = None) -> int:
        """How many orders of this team, or of this tenant, are not settled."""
        if tenant_id is not None:
            return int(self._connection.execute(_UNSETTLED_OF_TENANT, (tenant_id,)).get)
        return int(self._connection.execute(_UNSETTLED_OF_TEAM, (team_id,)).get)

    def insert_token(self, token: TokenRecord) -> None:
        values = msgspec.structs.asdict(token)
        del values["revoked_ms"], values["last_used_day"]
        self._connection.execute(_ADD_TOKEN, values)

    def revoke_token(self, token_id: str, revoked_ms: int) -> None:
        self._connection.execute(
            "UPDATE tokens SET revoked_ms = ? WHERE token_id = ? AND revoked_ms IS NULL", (revoked_ms, token_id)
        )

    def audit_all(
        self, marks: Marks, *, at_ms: int, who: str, changes: Iterable[tuple[str, str, Mapping[str, Any]]]
    ) -> None:
        """Rows of the audit log, each an action, its subject and what it changed, in the transaction of these changes.
        None holds a secret.
        """
        audit_all(self._connection, marks, at_ms=at_ms, who=who, changes=changes)

    def begin_chain(self, marks: Marks, at_ms: int, *, new: bool) -> None:
        """See `sqlite_audit.begin_chain`; a transaction of its own."""
        with transaction(self._connection):
            begin_chain(self._connection, marks, at_ms, new=new)

    def audited(self, *, before: int | None, limit: int) -> list[AuditRow]:
        """The newest rows of the audit log first; `before` continues an earlier page."""
        return page(self._connection, before=before, limit=limit)

    def verify_chain(self, marks: Marks) -> Verified:
        return verify_chain(self._connection, marks)

    def _master_version(self) -> int:
        """Which the ledger key is sealed under: the two bytes behind its format."""
        sealed: bytes | None = self._connection.execute("SELECT value FROM meta WHERE name = 'ledger_key'").get
        return 1 if sealed is None else int.from_bytes(sealed[1:3], "big")

    def _select(self, statement: str) -> Iterator[dict[str, Any]]:
        cursor = self._connection.execute(statement)
        for row in cursor:
            yield {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def note_used(connection: apsw.Connection, days: Mapping[str, int]) -> None:
    """By token id. No change of the directory: nobody has to read it again."""
    connection.executemany(_USE_TOKEN, [(day, token_id) for token_id, day in days.items()])


def refuse_key(connection: apsw.Connection, marks: Marks, key_id: str, at_ms: int) -> bool:
    """OfferGrid said 401 to an order: not used until it is verified. Inside the caller's transaction, with its audit
    row. Whether this changed anything: of many orders that meet it, one does.
    """
    if connection.execute(_REFUSE_KEY, (key_id,)).fetchone() is None:
        return False
    connection.execute(_RAISE)
    change = {"to": {"state": "refused"}, "reason": "OfferGrid said 401"}
    audit(connection, marks, at_ms=at_ms, who="gateway", action="key refused", subject=key_id, change=change)
    return True


def _key(row: dict[str, Any]) -> UpstreamKey:
    row["same_account"] = bool(row["same_account"])
    return UpstreamKey(**row)


def _tenant(row: dict[str, Any]) -> Tenant:
    row["require_idempotency_key"] = bool(row["require_idempotency_key"])
    row["defaults"] = msgspec.json.decode(row["defaults"], type=dict[str, str])
    row["enforced"] = msgspec.json.decode(row["enforced"], type=dict[str, str])
    return Tenant(**row)


def _stored(tenant: Mapping[str, Any]) -> dict[str, Any]:
    """As it stands in its row. Metadata names to JSON texts, themselves as JSON: the spelling of a number survives."""
    texts = {name: msgspec.json.encode(tenant[name]).decode() for name in ("defaults", "enforced")}
    return {**tenant, **texts, "require_idempotency_key": int(tenant["require_idempotency_key"])}
