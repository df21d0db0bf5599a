-- What may become of a hold beside being held and decided in one go. A plain hold leaves every new column NULL and every new table
-- alone. Every statement can run again after a crash half-way.

-- +goose Up
ALTER TABLE holds ADD COLUMN IF NOT EXISTS progress MEDIUMBLOB NULL;         -- parts confirmed, pinned_at …: members of the hold's JSON
ALTER TABLE decided_holds ADD COLUMN IF NOT EXISTS progress MEDIUMBLOB NULL; -- the same, and what was refunded since
ALTER TABLE owners ADD COLUMN IF NOT EXISTS frozen TINYINT UNSIGNED NOT NULL DEFAULT 0 CHECK (frozen IN (0, 1)); -- 1: no new holds
ALTER TABLE coupons ADD COLUMN IF NOT EXISTS terms VARBINARY(255) NULL;      -- of refund and stacking; NULL: the usual ones
ALTER TABLE lots ADD COLUMN IF NOT EXISTS refund_grace BIGINT NULL CHECK (refund_grace > 0); -- how long refunded money lives at least

-- The live holds whose payment was sent and whose outcome is not known. A row leaves when its hold is decided.
CREATE TABLE IF NOT EXISTS pins (
  bucket    SMALLINT UNSIGNED NOT NULL,
  hold_id   BINARY(16) NOT NULL,
  owner     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  pinned_at BIGINT NOT NULL,
  PRIMARY KEY (bucket, hold_id),
  KEY pins_age (pinned_at)                        -- the report reads the oldest first
) ENGINE=InnoDB;

-- Refunds, written once, for ever.
CREATE TABLE IF NOT EXISTS refunds (
  bucket       SMALLINT UNSIGNED NOT NULL,
  owner        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  refund_ref   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  refund_id    BINARY(16) NOT NULL,
  hold_id      BINARY(16) NOT NULL,
  request_hash BINARY(16) NOT NULL,               -- tells whether a second refund of the reference asks for the same
  refunded_at  BIGINT NOT NULL,
  doc          MEDIUMBLOB NOT NULL,               -- the refund's JSON
  PRIMARY KEY (bucket, owner, refund_ref),
  UNIQUE KEY refunds_id (bucket, refund_id),
  KEY refunds_hold (bucket, hold_id)
) ENGINE=InnoDB;

-- +goose Down
DROP TABLE IF EXISTS refunds;
DROP TABLE IF EXISTS pins;
ALTER TABLE lots DROP COLUMN IF EXISTS refund_grace;
ALTER TABLE coupons DROP COLUMN IF EXISTS terms;
ALTER TABLE owners DROP COLUMN IF EXISTS frozen;
ALTER TABLE decided_holds DROP COLUMN IF EXISTS progress;
ALTER TABLE holds DROP COLUMN IF EXISTS progress;
