-- No team's orders in doubt hide another's, and an order that stays in doubt keeps the witnesses of its own time only.

-- When the order became unknown: its last attempt had ended by then. NULL where that was not written down.
ALTER TABLE orders ADD COLUMN unknown_tick INTEGER;

CREATE INDEX unknown_orders_of_a_team ON orders (team_id, seq) WHERE outcome = 'unknown';
CREATE INDEX watched_orders_of_a_team ON orders (team_id, watch_until_tick) WHERE watch_until_tick IS NOT NULL;
DROP INDEX watched_orders;
