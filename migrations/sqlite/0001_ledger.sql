-- The schema of an embedded shard: the tables of ../mariadb in SQLite's types.
--
-- bucket is the first column of every key of moved tables, so a bucket is one range per table.
-- Times are microseconds since 1970 UTC, money is minor units. CHECK and UNIQUE repeat the invariants of docs/invariants.md:
-- code that breaks one fails instead of writing it down. Every statement can run again after a crash half-way.

-- +goose Up
CREATE TABLE IF NOT EXISTS fence (
  id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  epoch      INTEGER NOT NULL,
  primary_id INTEGER NOT NULL DEFAULT 0,
  floor_at   INTEGER NOT NULL DEFAULT 0      -- no batch decides at an earlier time
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO fence (id, epoch) VALUES (1, 1);

CREATE TABLE IF NOT EXISTS bucket_owner (
  bucket     INTEGER NOT NULL PRIMARY KEY CHECK (bucket < 16384),
  state      TEXT NOT NULL CHECK (state IN ('SERVING','FROZEN','IMPORTING','GONE')),
  era_base   INTEGER NOT NULL DEFAULT 0,
  holders    TEXT NOT NULL DEFAULT '',
  changed_at INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS operations (
  bucket      INTEGER NOT NULL,
  owner       TEXT NOT NULL,
  op_key      TEXT NOT NULL,
  fingerprint BLOB NOT NULL,
  verdict     TEXT NOT NULL CHECK (verdict IN ('DONE','REFUSED','ABORTED','SEALED')),
  epoch       INTEGER NOT NULL,
  decided_at  INTEGER NOT NULL,
  order_id    TEXT NULL,                     -- whose document the reply quotes
  attempt     INTEGER NULL,
  quote_at    INTEGER NULL,                  -- where: the document is left out of reply
  reply       BLOB NOT NULL,
  PRIMARY KEY (bucket, owner, op_key),       -- I4: one key, one effect
  CONSTRAINT operations_quote CHECK ((order_id IS NULL) = (attempt IS NULL) AND (order_id IS NULL) = (quote_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS owners (
  bucket     INTEGER NOT NULL,
  owner      TEXT NOT NULL,
  ver        INTEGER NOT NULL CHECK (ver > 0),          -- +1 with every write of the owner
  entry_seq  INTEGER NOT NULL CHECK (entry_seq >= 0),   -- sequence of the newest entry
  head       BLOB NOT NULL,                      -- hash of the newest entry; zeros before the first
  live_holds INTEGER NOT NULL CHECK (live_holds >= 0),  -- rows in holds
  due_at     INTEGER NOT NULL,                          -- no live hold expires earlier; 0: none is live
  PRIMARY KEY (bucket, owner)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS owners_due ON owners (due_at); -- what the sweeper reads

CREATE TABLE IF NOT EXISTS coupons (
  bucket       INTEGER NOT NULL,
  owner        TEXT NOT NULL,
  coupon_id    BLOB NOT NULL,
  campaign_id  TEXT NOT NULL,
  issue_ref    TEXT NOT NULL,
  state        TEXT NOT NULL
               CHECK (state IN ('AVAILABLE','HELD','USED','EXPIRED','REVOKED')),
  ver          INTEGER NOT NULL CHECK (ver > 0),
  discount     TEXT NOT NULL CHECK (discount IN ('FIXED','PERCENT')),
  currency     TEXT NOT NULL,
  amount       INTEGER NOT NULL CHECK (amount >= 0),              -- FIXED: the discount
  basis_points INTEGER NOT NULL CHECK (basis_points BETWEEN 0 AND 10000), -- PERCENT: hundredths of a per cent
  cap          INTEGER NOT NULL CHECK (cap >= 0),                 -- PERCENT: the most it gives; 0: no cap
  min_spend    INTEGER NOT NULL CHECK (min_spend >= 0),
  valid_from   INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  hold_id      BLOB NULL,                                  -- the hold that has it, or has used it
  held_until   INTEGER NULL,
  issued_at    INTEGER NOT NULL,
  PRIMARY KEY (bucket, owner, coupon_id),
  CONSTRAINT coupons_held CHECK ((state IN ('HELD','USED')) = (hold_id IS NOT NULL)),
  CONSTRAINT coupons_until CHECK ((state = 'HELD') = (held_until IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX IF NOT EXISTS coupons_id ON coupons (bucket, coupon_id);
CREATE UNIQUE INDEX IF NOT EXISTS coupons_ref ON coupons (bucket, owner, campaign_id, issue_ref);

CREATE TABLE IF NOT EXISTS lots (
  bucket     INTEGER NOT NULL,
  owner      TEXT NOT NULL,
  lot_id     BLOB NOT NULL,
  issue_ref  TEXT NOT NULL,
  source     TEXT NOT NULL,
  tag        TEXT NOT NULL,
  currency   TEXT NOT NULL,
  live       INTEGER NOT NULL,           -- 1 while available or held money is left: what a hold has to load
  issued     INTEGER NOT NULL CHECK (issued > 0),
  available  INTEGER NOT NULL CHECK (available >= 0),
  held       INTEGER NOT NULL CHECK (held >= 0),
  spent      INTEGER NOT NULL CHECK (spent >= 0),
  expired    INTEGER NOT NULL CHECK (expired >= 0),
  revoked    INTEGER NOT NULL CHECK (revoked >= 0),
  ver        INTEGER NOT NULL CHECK (ver > 0),
  expires_at INTEGER NOT NULL,
  issued_at  INTEGER NOT NULL,
  PRIMARY KEY (bucket, owner, lot_id),
  CONSTRAINT lots_sum CHECK (issued = available + held + spent + expired + revoked), -- I2
  CONSTRAINT lots_is_live CHECK (live = (available + held > 0))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX IF NOT EXISTS lots_id ON lots (bucket, lot_id);
CREATE UNIQUE INDEX IF NOT EXISTS lots_ref ON lots (bucket, owner, issue_ref);
CREATE INDEX IF NOT EXISTS lots_live ON lots (bucket, owner, live, currency);

-- The pending ledger: holds that are not decided. A row leaves when its hold is.
CREATE TABLE IF NOT EXISTS holds (
  bucket       INTEGER NOT NULL,
  hold_id      BLOB NOT NULL,
  owner        TEXT NOT NULL,
  order_id     TEXT NOT NULL,
  attempt      INTEGER NOT NULL CHECK (attempt >= 1),
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  PRIMARY KEY (bucket, hold_id),
  CONSTRAINT holds_time CHECK (expires_at > created_at)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS holds_owner ON holds (bucket, owner, expires_at);

-- What became of each hold. A tombstone (a cancel that came before its hold) may have no order.
CREATE TABLE IF NOT EXISTS decided_holds (
  bucket       INTEGER NOT NULL,
  hold_id      BLOB NOT NULL,
  owner        TEXT NOT NULL,
  order_id     TEXT NULL,
  attempt      INTEGER NULL,
  state        TEXT NOT NULL CHECK (state IN ('CONFIRMED','CANCELLED','EXPIRED')),
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  decided_at   INTEGER NOT NULL,
  PRIMARY KEY (bucket, hold_id)   -- I3: one terminal state per hold
) STRICT, WITHOUT ROWID;

-- Which hold an order's attempt has made, live or decided, and what is in it: written once, for ever.
CREATE TABLE IF NOT EXISTS orders (
  bucket       INTEGER NOT NULL,
  owner        TEXT NOT NULL,
  order_id     TEXT NOT NULL,
  attempt      INTEGER NOT NULL,
  hold_id      BLOB NOT NULL,
  request_hash BLOB NOT NULL,               -- tells whether a second hold of the order asks for the same
  doc          BLOB NOT NULL,               -- items, split over lots, discount per line; empty: a tombstone
  PRIMARY KEY (bucket, owner, order_id, attempt)
) STRICT, WITHOUT ROWID;

-- The decided ledger: append-only, a hash chain per owner. seq has no gaps.
CREATE TABLE IF NOT EXISTS entries (
  bucket  INTEGER NOT NULL,
  owner   TEXT NOT NULL,
  seq     INTEGER NOT NULL CHECK (seq > 0),
  kind    TEXT NOT NULL,
  at      INTEGER NOT NULL,
  hold_id BLOB NULL,
  doc     BLOB NOT NULL,                    -- before and after of every asset
  hash    BLOB NOT NULL,                    -- SHA-256 over the previous hash and this entry
  PRIMARY KEY (bucket, owner, seq)
) STRICT, WITHOUT ROWID;

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
