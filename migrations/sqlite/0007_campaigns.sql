-- Campaigns, claims and grab-share packets: the tables of ../mariadb in SQLite's types.

-- +goose Up
-- The definition of a campaign is written once; only its state changes. Its home is the bucket of campaign:{campaign_id}.
CREATE TABLE IF NOT EXISTS campaigns (
  bucket      INTEGER NOT NULL,
  campaign_id TEXT NOT NULL,
  state       TEXT NOT NULL CHECK (state IN ('ACTIVE','PAUSED','ENDED')),
  frozen      INTEGER NOT NULL CHECK (frozen IN (0, 1)), -- 1: its coupons make no new holds
  ver         INTEGER NOT NULL CHECK (ver > 0),
  untold      INTEGER NOT NULL CHECK (untold IN (0, 1)), -- 1: a shard may not know this version yet
  created_at  INTEGER NOT NULL,
  changed_at  INTEGER NOT NULL,
  doc         BLOB NOT NULL,                  -- the definition, as JSON
  PRIMARY KEY (bucket, campaign_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS campaigns_name ON campaigns (campaign_id);
CREATE INDEX IF NOT EXISTS campaigns_untold ON campaigns (untold, changed_at);

-- What this shard was told of the states of campaigns. A mark belongs to the shard and not to a bucket.
CREATE TABLE IF NOT EXISTS campaign_marks (
  campaign_id TEXT NOT NULL PRIMARY KEY,
  state       TEXT NOT NULL CHECK (state IN ('ACTIVE','PAUSED','ENDED')),
  frozen      INTEGER NOT NULL CHECK (frozen IN (0, 1)),
  ver         INTEGER NOT NULL CHECK (ver > 0)       -- that of the campaign; it never falls
) STRICT, WITHOUT ROWID;

-- How often an owner has claimed from a campaign, ever and on one day of the campaign's. Time never runs backwards on a shard, so the
-- newest day is the only one that can still count.
CREATE TABLE IF NOT EXISTS usages (
  bucket      INTEGER NOT NULL,
  owner       TEXT NOT NULL,
  campaign_id TEXT NOT NULL,
  used        INTEGER NOT NULL CHECK (used > 0),
  day         INTEGER NOT NULL,                         -- yyyymmdd in the campaign's time zone
  day_used    INTEGER NOT NULL CHECK (day_used > 0),
  coupon_id   BLOB NOT NULL,                  -- of the newest claim
  ver         INTEGER NOT NULL CHECK (ver > 0),
  PRIMARY KEY (bucket, owner, campaign_id),
  CONSTRAINT usages_day CHECK (day_used <= used)
) STRICT, WITHOUT ROWID;

-- Grab-share packets. They live with their sender, and change under the lock of his row in owners.
CREATE TABLE IF NOT EXISTS packets (
  bucket       INTEGER NOT NULL,
  packet_id    BLOB NOT NULL,
  owner        TEXT NOT NULL, -- the sender
  packet_ref   TEXT NOT NULL,
  mode         TEXT NOT NULL CHECK (mode IN ('EQUAL','RANDOM')),
  currency     TEXT NOT NULL,
  total        INTEGER NOT NULL CHECK (total > 0),
  shares       INTEGER NOT NULL CHECK (shares > 0),
  grabbed      INTEGER NOT NULL CHECK (grabbed >= 0), -- money
  taken        INTEGER NOT NULL CHECK (taken >= 0),      -- shares: those with a number up to this one
  returned     INTEGER NOT NULL CHECK (returned >= 0),
  state        TEXT NOT NULL CHECK (state IN ('OPEN','EMPTY','RETURNED')),
  due_at       INTEGER NOT NULL,                      -- OPEN: when the rest returns; else 0
  lots_until   INTEGER NOT NULL,                      -- when the money in it expires
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  ver          INTEGER NOT NULL CHECK (ver > 0),
  PRIMARY KEY (bucket, packet_id),
  CONSTRAINT packets_shares CHECK (taken <= shares AND shares <= total),
  CONSTRAINT packets_sum CHECK (grabbed + returned <= total),              -- I2
  CONSTRAINT packets_end CHECK ((state = 'OPEN') = (due_at > 0)),
  CONSTRAINT packets_whole CHECK (state = 'OPEN' OR grabbed + returned = total) -- I2: nothing stays behind
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX IF NOT EXISTS packets_ref ON packets (bucket, owner, packet_ref);
CREATE INDEX IF NOT EXISTS packets_due ON packets (due_at);

-- The shares of packets, made with the packet. One with an owner and a sent_at is the pending ledger: out of the packet, and not known
-- to be in his lots.
CREATE TABLE IF NOT EXISTS packet_shares (
  bucket      INTEGER NOT NULL,
  packet_id   BLOB NOT NULL,
  number      INTEGER NOT NULL CHECK (number > 0),
  amount      INTEGER NOT NULL CHECK (amount > 0),
  owner       TEXT NULL,      -- who has grabbed it
  transfer_id BLOB NULL,
  grabbed_at  INTEGER NULL,
  sent_at     INTEGER NULL,
  PRIMARY KEY (bucket, packet_id, number),
  CONSTRAINT packet_shares_grab CHECK ((owner IS NULL) = (grabbed_at IS NULL) AND (owner IS NULL) = (transfer_id IS NULL)),
  CONSTRAINT packet_shares_out CHECK (sent_at IS NULL OR owner IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX IF NOT EXISTS packet_shares_owner ON packet_shares (bucket, packet_id, owner); -- one share per owner
CREATE INDEX IF NOT EXISTS packet_shares_transfer ON packet_shares (bucket, transfer_id);
CREATE INDEX IF NOT EXISTS packet_shares_sent ON packet_shares (sent_at);

-- +goose Down
DROP TABLE IF EXISTS packet_shares;
DROP TABLE IF EXISTS packets;
DROP TABLE IF EXISTS usages;
DROP TABLE IF EXISTS campaign_marks;
DROP TABLE IF EXISTS campaigns;
