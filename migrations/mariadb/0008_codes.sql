-- Codes of campaigns. Every statement can run again after a crash half-way.

-- +goose Up
-- Which codes were made together, at the home of their campaign. Generated ones follow from the seed, so making them again makes the same.
CREATE TABLE IF NOT EXISTS code_batches (
  bucket      SMALLINT UNSIGNED NOT NULL,
  campaign_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  batch_ref   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  kind        VARCHAR(6) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (kind IN ('UNIQUE','SHARED')),
  codes       INT NOT NULL CHECK (codes > 0),       -- how many
  seed        BINARY(32) NOT NULL,                  -- of generated codes
  request     BINARY(16) NOT NULL,                  -- tells whether a second request for the batch asks for the same
  created_at  BIGINT NOT NULL,
  PRIMARY KEY (bucket, campaign_id, batch_ref)
) ENGINE=InnoDB;

-- One row per code, at the bucket of code:{code}: a code is decided there and nowhere else. RESERVED is the pending ledger: the code is
-- one owner's, and whether his campaign gives him a coupon for it is decided on his shard under op_key.
CREATE TABLE IF NOT EXISTS codes (
  bucket      SMALLINT UNSIGNED NOT NULL,
  code        VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,  -- as it is compared
  shown       VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,  -- as it was made
  campaign_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  batch_ref   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  number      INT NOT NULL CHECK (number > 0),      -- in the batch
  kind        VARCHAR(6) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (kind IN ('UNIQUE','SHARED')),
  state       VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (state IN ('FREE','RESERVED','REDEEMED')),
  owner       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  op_key      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  attempt     BIGINT NOT NULL CHECK (attempt >= 0), -- how often it was reserved
  reserved_at BIGINT NULL,
  PRIMARY KEY (bucket, code),
  KEY codes_batch (campaign_id, batch_ref, number),
  KEY codes_reserved (reserved_at),
  CONSTRAINT codes_shared CHECK (kind = 'UNIQUE' OR state = 'FREE'),
  CONSTRAINT codes_owner CHECK ((state = 'FREE') = (owner IS NULL) AND (owner IS NULL) = (op_key IS NULL)),
  CONSTRAINT codes_pending CHECK ((state = 'RESERVED') = (reserved_at IS NOT NULL))
) ENGINE=InnoDB;

-- +goose Down
DROP TABLE IF EXISTS codes;
DROP TABLE IF EXISTS code_batches;
