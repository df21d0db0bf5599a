-- No hold of a coupon is sixteen zeros, no end is 0, as in ../mariadb. SQLite changes a column only by making the table anew.

-- +goose Up
CREATE TABLE coupons_remade (
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
  hold_id      BLOB NOT NULL DEFAULT x'00000000000000000000000000000000', -- the hold that has it, or has used it
  held_until   INTEGER NOT NULL DEFAULT 0,
  issued_at    INTEGER NOT NULL,
  terms        BLOB NULL,                                  -- of refund and stacking; NULL: the usual ones
  PRIMARY KEY (bucket, owner, coupon_id),
  CONSTRAINT coupons_held CHECK ((state IN ('HELD','USED')) = (hold_id <> x'00000000000000000000000000000000')),
  CONSTRAINT coupons_until CHECK ((state = 'HELD') = (held_until <> 0))
) STRICT, WITHOUT ROWID;

INSERT INTO coupons_remade (
  bucket, owner, coupon_id, campaign_id, issue_ref, state, ver, discount, currency, amount, basis_points, cap, min_spend,
  valid_from, expires_at, hold_id, held_until, issued_at, terms)
SELECT bucket, owner, coupon_id, campaign_id, issue_ref, state, ver, discount, currency, amount, basis_points, cap, min_spend,
  valid_from, expires_at, COALESCE(hold_id, x'00000000000000000000000000000000'), COALESCE(held_until, 0), issued_at, terms
FROM coupons;

DROP TABLE coupons;
ALTER TABLE coupons_remade RENAME TO coupons;
CREATE UNIQUE INDEX coupons_id ON coupons (bucket, coupon_id);
CREATE UNIQUE INDEX coupons_ref ON coupons (bucket, owner, campaign_id, issue_ref);

-- +goose Down
CREATE TABLE coupons_remade (
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
  terms        BLOB NULL,                                  -- of refund and stacking; NULL: the usual ones
  PRIMARY KEY (bucket, owner, coupon_id),
  CONSTRAINT coupons_held CHECK ((state IN ('HELD','USED')) = (hold_id IS NOT NULL)),
  CONSTRAINT coupons_until CHECK ((state = 'HELD') = (held_until IS NOT NULL))
) STRICT, WITHOUT ROWID;

INSERT INTO coupons_remade (
  bucket, owner, coupon_id, campaign_id, issue_ref, state, ver, discount, currency, amount, basis_points, cap, min_spend,
  valid_from, expires_at, hold_id, held_until, issued_at, terms)
SELECT bucket, owner, coupon_id, campaign_id, issue_ref, state, ver, discount, currency, amount, basis_points, cap, min_spend,
  valid_from, expires_at, IIF(state IN ('HELD','USED'), hold_id, NULL), IIF(state = 'HELD', held_until, NULL), issued_at, terms
FROM coupons;

DROP TABLE coupons;
ALTER TABLE coupons_remade RENAME TO coupons;
CREATE UNIQUE INDEX coupons_id ON coupons (bucket, coupon_id);
CREATE UNIQUE INDEX coupons_ref ON coupons (bucket, owner, campaign_id, issue_ref);
