-- Changes of owners' money by hand, kept for ever. Those that need a second API key are PROPOSED until it decides, or until they end.
-- Locked by the row in owners of their owner.

-- +goose Up
CREATE TABLE IF NOT EXISTS adjustments (
  bucket         SMALLINT UNSIGNED NOT NULL,
  owner          VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  adjustment_id  BINARY(16) NOT NULL,
  adjustment_ref VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  state          VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (state IN ('PROPOSED','DONE','REJECTED','EXPIRED')),
  currency       CHAR(3) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  delta          BIGINT NOT NULL CHECK (delta <> 0),      -- minor units: given, or taken
  lot_until      BIGINT NOT NULL,                         -- when the money ends that is given; 0: some is taken
  proposed_by    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- id of the API key
  proposed_at    BIGINT NOT NULL,
  ends_at        BIGINT NOT NULL,                         -- when nobody may approve it any more; 0: it needed no approval
  decided_at     BIGINT NOT NULL,                         -- 0: it is PROPOSED
  decided_by     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- id of the second API key; empty: nobody
  notes          BLOB NOT NULL,                           -- reasons and names, as JSON
  PRIMARY KEY (bucket, owner, adjustment_id),
  UNIQUE KEY adjustments_id (bucket, adjustment_id),
  UNIQUE KEY adjustments_ref (bucket, owner, adjustment_ref),
  KEY adjustments_open (state, ends_at),                  -- what the sweeper and the list of open ones read
  CONSTRAINT adjustments_lot CHECK ((delta > 0) = (lot_until > 0)),
  CONSTRAINT adjustments_decided CHECK ((state = 'PROPOSED') = (decided_at = 0)),
  CONSTRAINT adjustments_two CHECK (state <> 'DONE' OR (ends_at = 0) = (decided_by = '') AND decided_by <> proposed_by)
) ENGINE=InnoDB;

-- The list of all quotas goes through their ids.
ALTER TABLE quotas ADD KEY IF NOT EXISTS quotas_id (quota);

-- +goose Down
ALTER TABLE quotas DROP KEY IF EXISTS quotas_id;
DROP TABLE IF EXISTS adjustments;
