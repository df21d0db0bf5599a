-- The schema of a shard. bucket is the first column of every key of moved tables, so a bucket is one range per table.
-- Times are microseconds since 1970 UTC, money is minor units. CHECK and UNIQUE repeat the invariants of docs/invariants.md:
-- code that breaks one fails instead of writing it down. Every statement can run again after a crash half-way.

-- +goose Up
CREATE TABLE IF NOT EXISTS fence (
  id         TINYINT UNSIGNED NOT NULL PRIMARY KEY CHECK (id = 1),
  epoch      BIGINT UNSIGNED NOT NULL,
  primary_id BIGINT UNSIGNED NOT NULL DEFAULT 0,
  floor_at   BIGINT NOT NULL DEFAULT 0      -- no batch decides at an earlier time
) ENGINE=InnoDB;

INSERT IGNORE INTO fence (id, epoch) VALUES (1, 1);

CREATE TABLE IF NOT EXISTS bucket_owner (
  bucket     SMALLINT UNSIGNED NOT NULL PRIMARY KEY CHECK (bucket < 16384),
  state      VARCHAR(9) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (state IN ('SERVING','FROZEN','IMPORTING','GONE')),
  era_base   BIGINT NOT NULL DEFAULT 0,
  holders    VARCHAR(1024) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
  changed_at BIGINT NOT NULL DEFAULT 0
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS operations (
  bucket      SMALLINT UNSIGNED NOT NULL,
  owner       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  op_key      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  fingerprint VARBINARY(255) NOT NULL,
  verdict     VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (verdict IN ('DONE','REFUSED','ABORTED','SEALED')),
  epoch       BIGINT UNSIGNED NOT NULL,
  decided_at  BIGINT NOT NULL,
  order_id    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL, -- whose document the reply quotes
  attempt     INT NULL,
  quote_at    INT NULL,                      -- where: the document is left out of reply
  reply       MEDIUMBLOB NOT NULL,
  PRIMARY KEY (bucket, owner, op_key),       -- I4: one key, one effect
  CONSTRAINT operations_quote CHECK ((order_id IS NULL) = (attempt IS NULL) AND (order_id IS NULL) = (quote_at IS NULL))
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS owners (
  bucket     SMALLINT UNSIGNED NOT NULL,
  owner      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  ver        BIGINT NOT NULL CHECK (ver > 0),          -- +1 with every write of the owner
  entry_seq  BIGINT NOT NULL CHECK (entry_seq >= 0),   -- sequence of the newest entry
  head       BINARY(32) NOT NULL,                      -- hash of the newest entry; zeros before the first
  live_holds BIGINT NOT NULL CHECK (live_holds >= 0),  -- rows in holds
  due_at     BIGINT NOT NULL,                          -- no live hold expires earlier; 0: none is live
  PRIMARY KEY (bucket, owner),
  KEY owners_due (due_at)                              -- what the sweeper reads
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS coupons (
  bucket       SMALLINT UNSIGNED NOT NULL,
  owner        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  coupon_id    BINARY(16) NOT NULL,
  campaign_id  VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  issue_ref    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  state        VARCHAR(9) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
               CHECK (state IN ('AVAILABLE','HELD','USED','EXPIRED','REVOKED')),
  ver          BIGINT NOT NULL CHECK (ver > 0),
  discount     VARCHAR(7) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (discount IN ('FIXED','PERCENT')),
  currency     CHAR(3) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  amount       BIGINT NOT NULL CHECK (amount >= 0),              -- FIXED: the discount
  basis_points INT NOT NULL CHECK (basis_points BETWEEN 0 AND 10000), -- PERCENT: hundredths of a per cent
  cap          BIGINT NOT NULL CHECK (cap >= 0),                 -- PERCENT: the most it gives; 0: no cap
  min_spend    BIGINT NOT NULL CHECK (min_spend >= 0),
  valid_from   BIGINT NOT NULL,
  expires_at   BIGINT NOT NULL,
  hold_id      BINARY(16) NULL,                                  -- the hold that has it, or has used it
  held_until   BIGINT NULL,
  issued_at    BIGINT NOT NULL,
  PRIMARY KEY (bucket, owner, coupon_id),
  UNIQUE KEY coupons_id (bucket, coupon_id),
  UNIQUE KEY coupons_ref (bucket, owner, campaign_id, issue_ref),
  CONSTRAINT coupons_held CHECK ((state IN ('HELD','USED')) = (hold_id IS NOT NULL)),
  CONSTRAINT coupons_until CHECK ((state = 'HELD') = (held_until IS NOT NULL))
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS lots (
  bucket     SMALLINT UNSIGNED NOT NULL,
  owner      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  lot_id     BINARY(16) NOT NULL,
  issue_ref  VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  source     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  tag        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  currency   CHAR(3) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  live       TINYINT UNSIGNED NOT NULL,           -- 1 while available or held money is left: what a hold has to load
  issued     BIGINT NOT NULL CHECK (issued > 0),
  available  BIGINT NOT NULL CHECK (available >= 0),
  held       BIGINT NOT NULL CHECK (held >= 0),
  spent      BIGINT NOT NULL CHECK (spent >= 0),
  expired    BIGINT NOT NULL CHECK (expired >= 0),
  revoked    BIGINT NOT NULL CHECK (revoked >= 0),
  ver        BIGINT NOT NULL CHECK (ver > 0),
  expires_at BIGINT NOT NULL,
  issued_at  BIGINT NOT NULL,
  PRIMARY KEY (bucket, owner, lot_id),
  UNIQUE KEY lots_id (bucket, lot_id),
  UNIQUE KEY lots_ref (bucket, owner, issue_ref),
  KEY lots_live (bucket, owner, live, currency),
  CONSTRAINT lots_sum CHECK (issued = available + held + spent + expired + revoked), -- I2
  CONSTRAINT lots_is_live CHECK (live = (available + held > 0))
) ENGINE=InnoDB;

-- The pending ledger: holds that are not decided. A row leaves when its hold is.
CREATE TABLE IF NOT EXISTS holds (
  bucket       SMALLINT UNSIGNED NOT NULL,
  hold_id      BINARY(16) NOT NULL,
  owner        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  order_id     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  attempt      INT NOT NULL CHECK (attempt >= 1),
  created_at   BIGINT NOT NULL,
  expires_at   BIGINT NOT NULL,
  PRIMARY KEY (bucket, hold_id),
  KEY holds_owner (bucket, owner, expires_at),
  CONSTRAINT holds_time CHECK (expires_at > created_at)
) ENGINE=InnoDB;

-- What became of each hold. A tombstone (a cancel that came before its hold) may have no order.
CREATE TABLE IF NOT EXISTS decided_holds (
  bucket       SMALLINT UNSIGNED NOT NULL,
  hold_id      BINARY(16) NOT NULL,
  owner        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  order_id     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  attempt      INT NULL,
  state        VARCHAR(9) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (state IN ('CONFIRMED','CANCELLED','EXPIRED')),
  created_at   BIGINT NOT NULL,
  expires_at   BIGINT NOT NULL,
  decided_at   BIGINT NOT NULL,
  PRIMARY KEY (bucket, hold_id)                   -- I3: one terminal state per hold
) ENGINE=InnoDB;

-- Which hold an order's attempt has made, live or decided, and what is in it: written once, for ever.
CREATE TABLE IF NOT EXISTS orders (
  bucket       SMALLINT UNSIGNED NOT NULL,
  owner        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  order_id     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  attempt      INT NOT NULL,
  hold_id      BINARY(16) NOT NULL,
  request_hash BINARY(16) NOT NULL,               -- tells whether a second hold of the order asks for the same
  doc          MEDIUMBLOB NOT NULL,               -- items, split over lots, discount per line; empty: a tombstone
  PRIMARY KEY (bucket, owner, order_id, attempt)
) ENGINE=InnoDB;

-- The decided ledger: append-only, a hash chain per owner. seq has no gaps.
CREATE TABLE IF NOT EXISTS entries (
  bucket  SMALLINT UNSIGNED NOT NULL,
  owner   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  seq     BIGINT NOT NULL CHECK (seq > 0),
  kind    VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  at      BIGINT NOT NULL,
  hold_id BINARY(16) NULL,
  doc     MEDIUMBLOB NOT NULL,                    -- before and after of every asset
  hash    BINARY(32) NOT NULL,                    -- SHA-256 over the previous hash and this entry
  PRIMARY KEY (bucket, owner, seq)
) ENGINE=InnoDB;

-- +goose Down
DROP TABLE IF EXISTS entries;
DROP TABLE IF EXISTS orders;
DROP TABLE IF EXISTS decided_holds;
DROP TABLE IF EXISTS holds;
DROP TABLE IF EXISTS lots;
DROP TABLE IF EXISTS coupons;
DROP TABLE IF EXISTS owners;
DROP TABLE IF EXISTS operations;
DROP TABLE IF EXISTS bucket_owner;
DROP TABLE IF EXISTS fence;
