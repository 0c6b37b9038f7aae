-- The first schema. Times are milliseconds since 1970, UTC. Columns named sealed_* hold AES-GCM records that are bound
-- to their table, row and column; *_digest are keyed hashes. No content of an order stands here in the clear.

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- Raised in the same transaction as any change of the four tables below: instances reload when they see it move.
INSERT INTO meta (name, value) VALUES ('directory_version', 1);

CREATE TABLE teams (
  team_id    INTEGER PRIMARY KEY AUTOINCREMENT,
  name       TEXT NOT NULL UNIQUE,
  created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE upstream_keys (
  key_id     TEXT PRIMARY KEY,
  team_id    INTEGER NOT NULL REFERENCES teams,
  state      TEXT NOT NULL CHECK (state IN ('standby', 'active', 'retiring', 'revoked', 'refused')),
  sealed_key BLOB NOT NULL,
  per_minute INTEGER,
  per_hour   INTEGER,
  created_ms INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_active_key_a_team ON upstream_keys (team_id) WHERE state = 'active';

-- AUTOINCREMENT: a tenant's id is never used again, so that a new tenant of an old name meets no old order.
CREATE TABLE tenants (
  tenant_id               INTEGER PRIMARY KEY AUTOINCREMENT,
  name                    TEXT NOT NULL UNIQUE,
  team_id                 INTEGER NOT NULL REFERENCES teams,
  state                   TEXT NOT NULL CHECK (state IN ('active', 'suspended')),
  require_idempotency_key INTEGER NOT NULL CHECK (require_idempotency_key IN (0, 1)),
  guaranteed_per_minute   INTEGER,
  implicit_window_s       INTEGER,
  defaults                TEXT NOT NULL, -- a JSON object: member name to value
  enforced                TEXT NOT NULL,
  created_ms              INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
  token_id   TEXT PRIMARY KEY,
  tenant_id  INTEGER NOT NULL REFERENCES tenants,
  digest     BLOB NOT NULL,
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER,
  revoked_ms INTEGER
) STRICT;

CREATE TABLE orders (
  seq               INTEGER PRIMARY KEY AUTOINCREMENT,
  order_id          TEXT NOT NULL UNIQUE,
  tenant_id         INTEGER NOT NULL,
  tenant            TEXT NOT NULL, -- the name at that time, for readers
  team_id           INTEGER NOT NULL,
  outcome           TEXT NOT NULL CHECK (outcome IN ('queued', 'in_flight', 'placed', 'rejected', 'not_placed', 'unknown')),
  version           INTEGER NOT NULL, -- every change is a compare-and-set on it
  fingerprint       BLOB NOT NULL,
  key_digest        BLOB,
  sealed_idempotency_key BLOB,
  created_ms        INTEGER NOT NULL,
  settled_ms        INTEGER,
  cause             TEXT,
  http_status       INTEGER, -- what the tenant was answered
  upstream_order_id TEXT,
  upstream_status   TEXT,
  sealed_response   BLOB, -- OfferGrid's body
  sealed_answer     BLOB  -- what the tenant was answered, where it is not OfferGrid's body
) STRICT;
CREATE UNIQUE INDEX one_order_a_key ON orders (tenant_id, key_digest) WHERE key_digest IS NOT NULL;
CREATE UNIQUE INDEX one_row_an_upstream_order ON orders (team_id, upstream_order_id) WHERE upstream_order_id IS NOT NULL;
CREATE INDEX orders_of_a_tenant ON orders (tenant_id, seq);
CREATE INDEX orders_of_a_tenant_by_outcome ON orders (tenant_id, outcome, seq);
CREATE INDEX orders_by_body ON orders (tenant_id, fingerprint);
CREATE INDEX unsettled_orders ON orders (outcome, seq) WHERE outcome IN ('queued', 'in_flight', 'unknown');

CREATE TABLE attempts (
  order_id   TEXT NOT NULL REFERENCES orders (order_id),
  number     INTEGER NOT NULL,
  key_id     TEXT NOT NULL,
  started_ms INTEGER NOT NULL,
  ended_ms   INTEGER,
  evidence   TEXT CHECK (evidence IN ('not_sent', 'sent', 'answered')),
  status     INTEGER,
  PRIMARY KEY (order_id, number)
) STRICT, WITHOUT ROWID;
