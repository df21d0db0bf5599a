-- Changes of owners' money by hand, as in ../mariadb.

-- +goose Up
CREATE TABLE IF NOT EXISTS adjustments (
  bucket         INTEGER NOT NULL,
  owner          TEXT NOT NULL,
  adjustment_id  BLOB NOT NULL,
  adjustment_ref TEXT NOT NULL,
  state          TEXT NOT NULL CHECK (state IN ('PROPOSED','DONE','REJECTED','EXPIRED')),
  currency       TEXT NOT NULL,
  delta          INTEGER NOT NULL CHECK (delta <> 0),     -- minor units: given, or taken
  lot_until      INTEGER NOT NULL,                        -- when the money ends that is given; 0: some is taken
  proposed_by    TEXT NOT NULL,                           -- id of the API key
  proposed_at    INTEGER NOT NULL,
  ends_at        INTEGER NOT NULL,                        -- when nobody may approve it any more; 0: it needed no approval
  decided_at     INTEGER NOT NULL,                        -- 0: it is PROPOSED
  decided_by     TEXT NOT NULL,                           -- id of the second API key; empty: nobody
  notes          BLOB NOT NULL,                           -- reasons and names, as JSON
  PRIMARY KEY (bucket, owner, adjustment_id),
  CONSTRAINT adjustments_lot CHECK ((delta > 0) = (lot_until > 0)),
  CONSTRAINT adjustments_decided CHECK ((state = 'PROPOSED') = (decided_at = 0)),
  CONSTRAINT adjustments_two CHECK (state <> 'DONE' OR (ends_at = 0) = (decided_by = '') AND decided_by <> proposed_by)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX IF NOT EXISTS adjustments_id ON adjustments (bucket, adjustment_id);
CREATE UNIQUE INDEX IF NOT EXISTS adjustments_ref ON adjustments (bucket, owner, adjustment_ref);
CREATE INDEX IF NOT EXISTS adjustments_open ON adjustments (state, ends_at); -- what the sweeper and the list of open ones read

CREATE INDEX IF NOT EXISTS quotas_id ON quotas (quota); -- the list of all quotas goes through their ids

-- +goose Down
DROP INDEX IF EXISTS quotas_id;
DROP TABLE IF EXISTS adjustments;
