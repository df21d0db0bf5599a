-- Campaigns, claims and grab-share packets. Every statement can run again after a crash half-way.

-- +goose Up
-- The definition of a campaign is written once; only its state changes. Its home is the bucket of campaign:{campaign_id}.
CREATE TABLE IF NOT EXISTS campaigns (
  bucket      SMALLINT UNSIGNED NOT NULL,
  campaign_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  state       VARCHAR(6) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (state IN ('ACTIVE','PAUSED','ENDED')),
  frozen      TINYINT UNSIGNED NOT NULL CHECK (frozen IN (0, 1)), -- 1: its coupons make no new holds
  ver         BIGINT NOT NULL CHECK (ver > 0),
  untold      TINYINT UNSIGNED NOT NULL CHECK (untold IN (0, 1)), -- 1: a shard may not know this version yet
  created_at  BIGINT NOT NULL,
  changed_at  BIGINT NOT NULL,
  doc         MEDIUMBLOB NOT NULL,                  -- the definition, as JSON
  PRIMARY KEY (bucket, campaign_id),
  KEY campaigns_name (campaign_id),
  KEY campaigns_untold (untold, changed_at)
) ENGINE=InnoDB;

-- What this shard was told of the states of campaigns. A mark belongs to the shard and not to a bucket.
CREATE TABLE IF NOT EXISTS campaign_marks (
  campaign_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  state       VARCHAR(6) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (state IN ('ACTIVE','PAUSED','ENDED')),
  frozen      TINYINT UNSIGNED NOT NULL CHECK (frozen IN (0, 1)),
  ver         BIGINT NOT NULL CHECK (ver > 0)       -- that of the campaign; it never falls
) ENGINE=InnoDB;

-- How often an owner has claimed from a campaign, ever and on one day of the campaign's. Time never runs backwards on a shard, so the
-- newest day is the only one that can still count.
CREATE TABLE IF NOT EXISTS usages (
  bucket      SMALLINT UNSIGNED NOT NULL,
  owner       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  campaign_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  used        BIGINT NOT NULL CHECK (used > 0),
  day         INT NOT NULL,                         -- yyyymmdd in the campaign's time zone
  day_used    BIGINT NOT NULL CHECK (day_used > 0),
  coupon_id   BINARY(16) NOT NULL,                  -- of the newest claim
  ver         BIGINT NOT NULL CHECK (ver > 0),
  PRIMARY KEY (bucket, owner, campaign_id),
  CONSTRAINT usages_day CHECK (day_used <= used)
) ENGINE=InnoDB;

-- Grab-share packets. They live with their sender, and change under the lock of his row in owners.
CREATE TABLE IF NOT EXISTS packets (
  bucket       SMALLINT UNSIGNED NOT NULL,
  packet_id    BINARY(16) NOT NULL,
  owner        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- the sender
  packet_ref   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  mode         VARCHAR(6) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (mode IN ('EQUAL','RANDOM')),
  currency     CHAR(3) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  total        BIGINT NOT NULL CHECK (total > 0),
  shares       INT NOT NULL CHECK (shares > 0),
  grabbed      BIGINT NOT NULL CHECK (grabbed >= 0), -- money
  taken        INT NOT NULL CHECK (taken >= 0),      -- shares: those with a number up to this one
  returned     BIGINT NOT NULL CHECK (returned >= 0),
  state        VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (state IN ('OPEN','EMPTY','RETURNED')),
  due_at       BIGINT NOT NULL,                      -- OPEN: when the rest returns; else 0
  lots_until   BIGINT NOT NULL,                      -- when the money in it expires
  created_at   BIGINT NOT NULL,
  expires_at   BIGINT NOT NULL,
  ver          BIGINT NOT NULL CHECK (ver > 0),
  PRIMARY KEY (bucket, packet_id),
  UNIQUE KEY packets_ref (bucket, owner, packet_ref),
  KEY packets_due (due_at),
  CONSTRAINT packets_shares CHECK (taken <= shares AND shares <= total),
  CONSTRAINT packets_sum CHECK (grabbed + returned <= total),              -- I2
  CONSTRAINT packets_end CHECK ((state = 'OPEN') = (due_at > 0)),
  CONSTRAINT packets_whole CHECK (state = 'OPEN' OR grabbed + returned = total) -- I2: nothing stays behind
) ENGINE=InnoDB;

-- The shares of packets, made with the packet. One with an owner and a sent_at is the pending ledger: out of the packet, and not known
-- to be in his lots.
CREATE TABLE IF NOT EXISTS packet_shares (
  bucket      SMALLINT UNSIGNED NOT NULL,
  packet_id   BINARY(16) NOT NULL,
  number      INT NOT NULL CHECK (number > 0),
  amount      BIGINT NOT NULL CHECK (amount > 0),
  owner       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,      -- who has grabbed it
  transfer_id BINARY(16) NULL,
  grabbed_at  BIGINT NULL,
  sent_at     BIGINT NULL,
  PRIMARY KEY (bucket, packet_id, number),
  UNIQUE KEY packet_shares_owner (bucket, packet_id, owner),               -- one share per owner
  KEY packet_shares_transfer (bucket, transfer_id),
  KEY packet_shares_sent (sent_at),
  CONSTRAINT packet_shares_grab CHECK ((owner IS NULL) = (grabbed_at IS NULL) AND (owner IS NULL) = (transfer_id IS NULL)),
  CONSTRAINT packet_shares_out CHECK (sent_at IS NULL OR owner IS NOT NULL)
) ENGINE=InnoDB;

-- +goose Down
DROP TABLE IF EXISTS packet_shares;
DROP TABLE IF EXISTS packets;
DROP TABLE IF EXISTS usages;
DROP TABLE IF EXISTS campaign_marks;
DROP TABLE IF EXISTS campaigns;
