-- Heartbeats, as in ../mariadb. An embedded shard has no second database, so nobody writes here.

-- +goose Up
CREATE TABLE IF NOT EXISTS clock (
  source TEXT NOT NULL PRIMARY KEY,
  at     INTEGER NOT NULL                         -- the primary's time when the row was written last
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE IF EXISTS clock;
