-- Each call that was counted against a key's budget, for as long as it counts; see core/budget.py.
CREATE TABLE calls (
  key_id     TEXT NOT NULL,
  number     INTEGER NOT NULL,
  tick       INTEGER NOT NULL,
  tenant_id  INTEGER NOT NULL, -- 0: a read of the gateway's own
  instead_of INTEGER, -- the number under which the same call was counted before
  PRIMARY KEY (key_id, number)
) STRICT, WITHOUT ROWID;

-- Until when OfferGrid wants to be left alone with a key (it said 429).
CREATE TABLE key_pauses (
  key_id     TEXT PRIMARY KEY,
  until_tick INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE attempts ADD COLUMN call INTEGER; -- its number in calls; NULL where the key has no limit
