-- What may become of a hold beside being held and decided in one go, as in ../mariadb.

-- +goose Up
ALTER TABLE holds ADD COLUMN progress BLOB NULL;         -- parts confirmed, pinned_at …: members of the hold's JSON
ALTER TABLE decided_holds ADD COLUMN progress BLOB NULL; -- the same, and what was refunded since
ALTER TABLE owners ADD COLUMN frozen INTEGER NOT NULL DEFAULT 0 CHECK (frozen IN (0, 1)); -- 1: no new holds
ALTER TABLE coupons ADD COLUMN terms BLOB NULL;          -- of refund and stacking; NULL: the usual ones
ALTER TABLE lots ADD COLUMN refund_grace INTEGER NULL CHECK (refund_grace > 0); -- how long refunded money lives at least

CREATE TABLE IF NOT EXISTS pins (
  bucket    INTEGER NOT NULL,
  hold_id   BLOB NOT NULL,
  owner     TEXT NOT NULL,
  pinned_at INTEGER NOT NULL,
  PRIMARY KEY (bucket, hold_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS pins_age ON pins (pinned_at); -- the report reads the oldest first

CREATE TABLE IF NOT EXISTS refunds (
  bucket       INTEGER NOT NULL,
  owner        TEXT NOT NULL,
  refund_ref   TEXT NOT NULL,
  refund_id    BLOB NOT NULL,
  hold_id      BLOB NOT NULL,
  request_hash BLOB NOT NULL,                     -- tells whether a second refund of the reference asks for the same
  refunded_at  INTEGER NOT NULL,
  doc          BLOB NOT NULL,                     -- the refund's JSON
  PRIMARY KEY (bucket, owner, refund_ref),
  CONSTRAINT refunds_id UNIQUE (bucket, refund_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS refunds_hold ON refunds (bucket, hold_id);

-- +goose Down
DROP TABLE IF EXISTS refunds;
DROP TABLE IF EXISTS pins;
ALTER TABLE lots DROP COLUMN refund_grace;
ALTER TABLE coupons DROP COLUMN terms;
ALTER TABLE owners DROP COLUMN frozen;
ALTER TABLE decided_holds DROP COLUMN progress;
ALTER TABLE holds DROP COLUMN progress;
