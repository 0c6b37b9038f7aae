-- Which version of the master key a ledger stands under. The ledger key, sealed under it, stands in `meta` as
-- `ledger_key`; its first three bytes (format, version) are those of every sealed upstream key.

-- Whoever seals a key while the master key is being rotated seals it under the version that the ledger stands under by
-- then, or not at all: what is under an older one could not be opened any more.
CREATE TRIGGER new_keys_stand_under_the_ledgers_master_key BEFORE INSERT ON upstream_keys
WHEN substr(NEW.sealed_key, 1, 3) <> (SELECT substr(value, 1, 3) FROM meta WHERE name = 'ledger_key')
BEGIN SELECT RAISE(ABORT, 'this key is not sealed under the version of the master key that the ledger stands under'); END;

CREATE TRIGGER keys_stand_under_the_ledgers_master_key BEFORE UPDATE OF sealed_key ON upstream_keys
WHEN substr(NEW.sealed_key, 1, 3) <> (SELECT substr(value, 1, 3) FROM meta WHERE name = 'ledger_key')
BEGIN SELECT RAISE(ABORT, 'this key is not sealed under the version of the master key that the ledger stands under'); END;

-- When a token was last shown, in days since 1970, UTC: to find those that nobody uses. NULL: not since this is noted.
ALTER TABLE tokens ADD COLUMN last_used_day INTEGER;
