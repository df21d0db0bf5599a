-- Quotas: stock, budgets, counts. ledger/quota.go says how their units travel between the rows of these tables.

-- +goose Up
CREATE TABLE IF NOT EXISTS quotas (
  bucket   SMALLINT UNSIGNED NOT NULL,              -- that of the quota's id: its home
  quota    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  currency VARCHAR(3) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- of a budget; empty: it counts pieces
  total    BIGINT NOT NULL CHECK (total >= 0),
  free     BIGINT NOT NULL CHECK (free >= 0),       -- granted to no shard
  ver      BIGINT NOT NULL CHECK (ver > 0),
  PRIMARY KEY (bucket, quota),
  CONSTRAINT quotas_free CHECK (free <= total)      -- total = free + the sum of grants.granted
) ENGINE=InnoDB;

-- What the home has given to each shard: its slice, and what is on its way there or back.
CREATE TABLE IF NOT EXISTS grants (
  bucket  SMALLINT UNSIGNED NOT NULL,
  quota   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  shard   INT NOT NULL CHECK (shard > 0),
  granted BIGINT NOT NULL CHECK (granted >= 0),
  out_seq BIGINT NOT NULL CHECK (out_seq >= 0),     -- transfers that were sent to the slice
  in_seq  BIGINT NOT NULL CHECK (in_seq >= 0),      -- transfers from the slice that have landed
  ver     BIGINT NOT NULL CHECK (ver > 0),
  PRIMARY KEY (bucket, quota, shard)
) ENGINE=InnoDB;

-- The part of a quota that this shard may give away by itself. A slice belongs to the shard and not to a bucket.
CREATE TABLE IF NOT EXISTS slices (
  quota     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  shard     INT NOT NULL CHECK (shard > 0),
  currency  VARCHAR(3) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  granted   BIGINT NOT NULL CHECK (granted >= 0),
  available BIGINT NOT NULL CHECK (available >= 0),
  held      BIGINT NOT NULL CHECK (held >= 0),
  used      BIGINT NOT NULL CHECK (used >= 0),
  taken     BIGINT NOT NULL CHECK (taken >= 0),     -- the demand: about so much was taken since since_at
  since_at  BIGINT NOT NULL,
  taken_at  BIGINT NOT NULL,                        -- a hold has taken from it last
  out_seq   BIGINT NOT NULL CHECK (out_seq >= 0),   -- transfers that were sent home
  in_seq    BIGINT NOT NULL CHECK (in_seq >= 0),    -- transfers from home that have landed
  ver       BIGINT NOT NULL CHECK (ver > 0),
  KEY slices_idle (taken_at),
  CONSTRAINT slices_sum CHECK (granted = available + held + used) -- I2
) ENGINE=InnoDB;

-- The pending ledger of transfers: out at their source, which is on this shard, and not yet known to be in.
CREATE TABLE IF NOT EXISTS transfers (
  bucket      SMALLINT UNSIGNED NOT NULL,
  transfer_id BINARY(16) NOT NULL,
  kind        VARCHAR(6) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (kind IN ('GRANT','RETURN')),
  quota       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  shard       INT NOT NULL CHECK (shard > 0),       -- of the slice at the one end; the home is the other
  seq         BIGINT NOT NULL CHECK (seq > 0),      -- lands as the next of its kind between the two, or not at all
  amount      BIGINT NOT NULL CHECK (amount > 0),
  currency    VARCHAR(3) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  created_at  BIGINT NOT NULL,
  PRIMARY KEY (bucket, transfer_id),
  UNIQUE KEY transfers_link (quota, kind, shard),   -- one at a time
  KEY transfers_age (created_at)
) ENGINE=InnoDB;

-- What the pending holds have of quotas.
CREATE TABLE IF NOT EXISTS hold_items (
  bucket     SMALLINT UNSIGNED NOT NULL,
  hold_id    BINARY(16) NOT NULL,
  quota      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  owner      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  amount     BIGINT NOT NULL CHECK (amount > 0),
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (bucket, hold_id, quota),
  KEY hold_items_due (quota, expires_at)            -- what can be reclaimed before a hold is refused
) ENGINE=InnoDB;

-- +goose Down
DROP TABLE IF EXISTS hold_items;
DROP TABLE IF EXISTS transfers;
DROP TABLE IF EXISTS slices;
DROP TABLE IF EXISTS grants;
DROP TABLE IF EXISTS quotas;
