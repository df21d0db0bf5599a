-- Heartbeats: one row per writer. A new primary decides nothing at an earlier time than any of them (fence.floor_at).

-- +goose Up
CREATE TABLE IF NOT EXISTS clock (
  source VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  at     BIGINT NOT NULL                          -- the primary's time when the row was written last
) ENGINE=InnoDB;

-- +goose Down
DROP TABLE IF EXISTS clock;
