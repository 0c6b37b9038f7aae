-- The audit log becomes a chain that only grows: each row's link is an HMAC over the link before it and the row, under
-- a key that is made from the master key (core/audit.py). Where the chain ends stands in `meta`, as `audit_end`.

ALTER TABLE audit ADD COLUMN link BLOB; -- NULL only in rows that are older than this, until they are linked

-- A ledger that was made before the chain: whoever opens it next, and has the master key, links what is there.
INSERT INTO meta (name, value) SELECT 'audit_unlinked', 1 FROM meta WHERE name = 'vault_check';

CREATE TRIGGER audit_grows_at_its_end BEFORE INSERT ON audit
WHEN NEW.link IS NULL OR EXISTS (SELECT 1 FROM audit WHERE number >= NEW.number)
BEGIN SELECT RAISE(ABORT, 'the audit log grows at its end only, link by link'); END;

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
WHEN OLD.link IS NOT NULL OR (NEW.number, NEW.at_ms, NEW.who, NEW.action, NEW.subject, NEW.change)
                       IS NOT (OLD.number, OLD.at_ms, OLD.who, OLD.action, OLD.subject, OLD.change)
BEGIN SELECT RAISE(ABORT, 'the audit log is not changed'); END;

CREATE TRIGGER audit_is_not_cut BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'nothing is taken out of the audit log'); END;

-- Which OfferGrid account a team's keys are of, counted: with `key activate --new-account` a team turns to its next one.
-- What was placed up to `account_tick` lies in an earlier account: the listing of this one does not show it.
ALTER TABLE teams ADD COLUMN account INTEGER NOT NULL DEFAULT 1;
ALTER TABLE teams ADD COLUMN account_tick INTEGER NOT NULL DEFAULT -1;
-- The account that the key was last seen to be of; 0: one that is not the team's.
ALTER TABLE upstream_keys ADD COLUMN account INTEGER NOT NULL DEFAULT 1;

-- Tenants that were removed: their orders keep their ids, and no later tenant of the same name has their scope.
CREATE TABLE removed_tenants (
  tenant_id  INTEGER PRIMARY KEY,
  name       TEXT NOT NULL,
  scope      TEXT NOT NULL UNIQUE,
  team_id    INTEGER NOT NULL,
  removed_ms INTEGER NOT NULL
) STRICT;

-- Whatever an instance has not heard of yet: once a team has turned to its next account, nothing is sent to an earlier one.
CREATE TRIGGER attempts_go_to_the_teams_account BEFORE INSERT ON attempts
WHEN EXISTS (SELECT 1 FROM upstream_keys JOIN teams USING (team_id)
             WHERE key_id = NEW.key_id AND upstream_keys.account <> teams.account)
BEGIN SELECT RAISE(ABORT, 'this key is not of the account that the team has now'); END;
