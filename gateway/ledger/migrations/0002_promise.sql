-- Who holds an order, when it settled in a time that no clock's step can move, what is watched, and what was found
-- that should not be there.
--
-- Columns named *_tick are milliseconds of the ledger's own time (ledger_time.py), which only ever moves forward.

ALTER TABLE orders ADD COLUMN owner INTEGER; -- the epoch of the process that queued or sends it; NULL when nobody does
ALTER TABLE orders ADD COLUMN created_tick INTEGER NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN settled_tick INTEGER;
ALTER TABLE orders ADD COLUMN watch_until_tick INTEGER; -- it may still turn up at OfferGrid, against all evidence

UPDATE orders SET settled_tick = 0 WHERE settled_ms IS NOT NULL;

-- When OfferGrid was last seen to accept the key: a standby that was never tried is no way out.
ALTER TABLE upstream_keys ADD COLUMN verified_ms INTEGER;

-- The last of a team's placed orders bear witness to a listing.
CREATE INDEX placed_orders_of_a_team ON orders (team_id, seq) WHERE outcome = 'placed';
CREATE INDEX watched_orders ON orders (watch_until_tick) WHERE watch_until_tick IS NOT NULL;

-- Orders at OfferGrid that should not be there, each counted once: a second one of the same order, or one of an order
-- that the ledger calls settled otherwise.
CREATE TABLE strays (
  team_id           INTEGER NOT NULL,
  upstream_order_id TEXT NOT NULL,
  order_id          TEXT NOT NULL,
  kind              TEXT NOT NULL CHECK (kind IN ('duplicate', 'late')),
  seen_ms           INTEGER NOT NULL,
  PRIMARY KEY (team_id, upstream_order_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
  number  INTEGER PRIMARY KEY AUTOINCREMENT,
  at_ms   INTEGER NOT NULL,
  who     TEXT NOT NULL,
  action  TEXT NOT NULL,
  subject TEXT NOT NULL,
  change  TEXT NOT NULL -- a JSON object: from, to, reason; never a secret
) STRICT;
