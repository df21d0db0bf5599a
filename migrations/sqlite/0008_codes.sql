-- Codes of campaigns: the tables of ../mariadb in SQLite's types.

-- +goose Up
-- Which codes were made together, at the home of their campaign. Generated ones follow from the seed, so making them again makes the same.
CREATE TABLE IF NOT EXISTS code_batches (
  bucket      INTEGER NOT NULL,
  campaign_id TEXT NOT NULL,
  batch_ref   TEXT NOT NULL,
  kind        TEXT NOT NULL CHECK (kind IN ('UNIQUE','SHARED')),
  codes       INTEGER NOT NULL CHECK (codes > 0),       -- how many
  seed        BLOB NOT NULL,                  -- of generated codes
  request     BLOB NOT NULL,                  -- tells whether a second request for the batch asks for the same
  created_at  INTEGER NOT NULL,
  PRIMARY KEY (bucket, campaign_id, batch_ref)
) STRICT, WITHOUT ROWID;

-- One row per code, at the bucket of code:{code}: a code is decided there and nowhere else. RESERVED is the pending ledger: the code is
-- one owner's, and whether his campaign gives him a coupon for it is decided on his shard under op_key.
CREATE TABLE IF NOT EXISTS codes (
  bucket      INTEGER NOT NULL,
  code        TEXT NOT NULL,  -- as it is compared
  shown       TEXT NOT NULL,  -- as it was made
  campaign_id TEXT NOT NULL,
  batch_ref   TEXT NOT NULL,
  number      INTEGER NOT NULL CHECK (number > 0),      -- in the batch
  kind        TEXT NOT NULL CHECK (kind IN ('UNIQUE','SHARED')),
  state       TEXT NOT NULL CHECK (state IN ('FREE','RESERVED','REDEEMED')),
  owner       TEXT NULL,
  op_key      TEXT NULL,
  attempt     INTEGER NOT NULL CHECK (attempt >= 0), -- how often it was reserved
  reserved_at INTEGER NULL,
  PRIMARY KEY (bucket, code),
  CONSTRAINT codes_shared CHECK (kind = 'UNIQUE' OR state = 'FREE'),
  CONSTRAINT codes_owner CHECK ((state = 'FREE') = (owner IS NULL) AND (owner IS NULL) = (op_key IS NULL)),
  CONSTRAINT codes_pending CHECK ((state = 'RESERVED') = (reserved_at IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS codes_batch ON codes (campaign_id, batch_ref, number);
CREATE INDEX IF NOT EXISTS codes_reserved ON codes (reserved_at);

-- +goose Down
DROP TABLE IF EXISTS codes;
DROP TABLE IF EXISTS code_batches;
