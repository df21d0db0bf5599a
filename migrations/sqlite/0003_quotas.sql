-- Quotas: the tables of ../mariadb in SQLite's types.

-- +goose Up
CREATE TABLE IF NOT EXISTS quotas (
  bucket   INTEGER NOT NULL,              -- that of the quota's id: its home
  quota    TEXT NOT NULL,
  currency TEXT NOT NULL, -- of a budget; empty: it counts pieces
  total    INTEGER NOT NULL CHECK (total >= 0),
  free     INTEGER NOT NULL CHECK (free >= 0),       -- granted to no shard
  ver      INTEGER NOT NULL CHECK (ver > 0),
  PRIMARY KEY (bucket, quota),
  CONSTRAINT quotas_free CHECK (free <= total)      -- total = free + the sum of grants.granted
) STRICT, WITHOUT ROWID;

-- What the home has given to each shard: its slice, and what is on its way there or back.
CREATE TABLE IF NOT EXISTS grants (
  bucket  INTEGER NOT NULL,
  quota   TEXT NOT NULL,
  shard   INTEGER NOT NULL CHECK (shard > 0),
  granted INTEGER NOT NULL CHECK (granted >= 0),
  out_seq INTEGER NOT NULL CHECK (out_seq >= 0),     -- transfers that were sent to the slice
  in_seq  INTEGER NOT NULL CHECK (in_seq >= 0),      -- transfers from the slice that have landed
  ver     INTEGER NOT NULL CHECK (ver > 0),
  PRIMARY KEY (bucket, quota, shard)
) STRICT, WITHOUT ROWID;

-- The part of a quota that this shard may give away by itself. A slice belongs to the shard and not to a bucket.
CREATE TABLE IF NOT EXISTS slices (
  quota     TEXT NOT NULL PRIMARY KEY,
  shard     INTEGER NOT NULL CHECK (shard > 0),
  currency  TEXT NOT NULL,
  granted   INTEGER NOT NULL CHECK (granted >= 0),
  available INTEGER NOT NULL CHECK (available >= 0),
  held      INTEGER NOT NULL CHECK (held >= 0),
  used      INTEGER NOT NULL CHECK (used >= 0),
  taken     INTEGER NOT NULL CHECK (taken >= 0),     -- the demand: about so much was taken since since_at
  since_at  INTEGER NOT NULL,
  taken_at  INTEGER NOT NULL,                        -- a hold has taken from it last
  out_seq   INTEGER NOT NULL CHECK (out_seq >= 0),   -- transfers that were sent home
  in_seq    INTEGER NOT NULL CHECK (in_seq >= 0),    -- transfers from home that have landed
  ver       INTEGER NOT NULL CHECK (ver > 0),
  CONSTRAINT slices_sum CHECK (granted = available + held + used) -- I2
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS slices_idle ON slices (taken_at);

-- The pending ledger of transfers: out at their source, which is on this shard, and not yet known to be in.
CREATE TABLE IF NOT EXISTS transfers (
  bucket      INTEGER NOT NULL,
  transfer_id BLOB NOT NULL,
  kind        TEXT NOT NULL CHECK (kind IN ('GRANT','RETURN')),
  quota       TEXT NOT NULL,
  shard       INTEGER NOT NULL CHECK (shard > 0),       -- of the slice at the one end; the home is the other
  seq         INTEGER NOT NULL CHECK (seq > 0),      -- lands as the next of its kind between the two, or not at all
  amount      INTEGER NOT NULL CHECK (amount > 0),
  currency    TEXT NOT NULL,
  created_at  INTEGER NOT NULL,
  PRIMARY KEY (bucket, transfer_id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX IF NOT EXISTS transfers_link ON transfers (quota, kind, shard); -- one at a time
CREATE INDEX IF NOT EXISTS transfers_age ON transfers (created_at);

-- What the pending holds have of quotas.
CREATE TABLE IF NOT EXISTS hold_items (
  bucket     INTEGER NOT NULL,
  hold_id    BLOB NOT NULL,
  quota      TEXT NOT NULL,
  owner      TEXT NOT NULL,
  amount     INTEGER NOT NULL CHECK (amount > 0),
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (bucket, hold_id, quota)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS hold_items_due ON hold_items (quota, expires_at); -- what can be reclaimed before a hold is refused

-- +goose Down
DROP TABLE IF EXISTS hold_items;
DROP TABLE IF EXISTS transfers;
DROP TABLE IF EXISTS slices;
DROP TABLE IF EXISTS grants;
DROP TABLE IF EXISTS quotas;
