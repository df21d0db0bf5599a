-- A coupon's row has the same size in every state, so that InnoDB changes it where it is: a row that grows is moved, and a full page
-- split for it. No hold is sixteen zeros, no end is 0.

-- +goose Up
ALTER TABLE coupons DROP CONSTRAINT IF EXISTS coupons_held, DROP CONSTRAINT IF EXISTS coupons_until;

UPDATE coupons SET hold_id=COALESCE(hold_id, x'00000000000000000000000000000000'), held_until=COALESCE(held_until, 0)
WHERE hold_id IS NULL OR held_until IS NULL;

ALTER TABLE coupons
  MODIFY state CHAR(9) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
    CHECK (state IN ('AVAILABLE','HELD','USED','EXPIRED','REVOKED')),
  MODIFY hold_id BINARY(16) NOT NULL DEFAULT x'00000000000000000000000000000000', -- the hold that has it, or has used it
  MODIFY held_until BIGINT NOT NULL DEFAULT 0,
  ADD CONSTRAINT coupons_held CHECK ((state IN ('HELD','USED')) = (hold_id <> x'00000000000000000000000000000000')),
  ADD CONSTRAINT coupons_until CHECK ((state = 'HELD') = (held_until <> 0));

-- +goose Down
ALTER TABLE coupons DROP CONSTRAINT IF EXISTS coupons_held, DROP CONSTRAINT IF EXISTS coupons_until;

ALTER TABLE coupons
  MODIFY state VARCHAR(9) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
    CHECK (state IN ('AVAILABLE','HELD','USED','EXPIRED','REVOKED')),
  MODIFY hold_id BINARY(16) NULL,
  MODIFY held_until BIGINT NULL;

UPDATE coupons SET hold_id=IF(state IN ('HELD','USED'), hold_id, NULL), held_until=IF(state = 'HELD', held_until, NULL);

ALTER TABLE coupons
  ADD CONSTRAINT coupons_held CHECK ((state IN ('HELD','USED')) = (hold_id IS NOT NULL)),
  ADD CONSTRAINT coupons_until CHECK ((state = 'HELD') = (held_until IS NOT NULL));
