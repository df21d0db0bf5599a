-- State data: one row per document. The row of a deleted document stays as a tombstone, so that its version goes on when it is made
-- again.

-- +goose Up
CREATE TABLE IF NOT EXISTS state (
  bucket     SMALLINT UNSIGNED NOT NULL,                     -- of "{kind}/{id}"
  kind       VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  id         VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  era        BIGINT NOT NULL CHECK (era > 0),                -- of the bucket when the row was written
  ver        BIGINT NOT NULL CHECK (ver > 0),                -- +1 with every write
  deleted    TINYINT UNSIGNED NOT NULL CHECK (deleted < 2),
  updated_at BIGINT NOT NULL,
  doc        MEDIUMBLOB NOT NULL,                            -- a JSON object; empty: deleted
  PRIMARY KEY (bucket, kind, id),
  KEY state_kind (kind, bucket, id),                         -- what lists read
  CONSTRAINT state_tombstone CHECK ((deleted = 1) = (LENGTH(doc) = 0))
) ENGINE=InnoDB;

-- +goose Down
DROP TABLE IF EXISTS state;
