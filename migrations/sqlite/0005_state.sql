-- State data, as in ../mariadb.

-- +goose Up
CREATE TABLE IF NOT EXISTS state (
  bucket     INTEGER NOT NULL,                               -- of "{kind}/{id}"
  kind       TEXT NOT NULL,
  id         TEXT NOT NULL,
  era        INTEGER NOT NULL CHECK (era > 0),               -- of the bucket when the row was written
  ver        INTEGER NOT NULL CHECK (ver > 0),               -- +1 with every write
  deleted    INTEGER NOT NULL CHECK (deleted IN (0, 1)),
  updated_at INTEGER NOT NULL,
  doc        BLOB NOT NULL,                                  -- a JSON object; empty: deleted
  PRIMARY KEY (bucket, kind, id),
  CONSTRAINT state_tombstone CHECK ((deleted = 1) = (LENGTH(doc) = 0))
) STRICT, WITHOUT ROWID;

-- +goose StatementBegin
CREATE INDEX IF NOT EXISTS state_kind ON state (kind, bucket, id);
-- +goose StatementEnd

-- +goose Down
DROP TABLE IF EXISTS state;
