-- Events, as in ../mariadb.

-- +goose Up
CREATE TABLE IF NOT EXISTS outbox (
  id     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, -- of one owner's batches, the later one has the larger
  first  INTEGER NULL CHECK (first > 0),       -- sequence of the first event; NULL: not numbered yet
  events INTEGER NOT NULL CHECK (events > 0),  -- so many sequences
  at     INTEGER NOT NULL,
  doc    BLOB NOT NULL,                        -- [["owner",from,to],…]: the entries, in the order of their events
  CONSTRAINT outbox_first UNIQUE (first)       -- no two events have one sequence
) STRICT;

CREATE TABLE IF NOT EXISTS outbox_head (
  id      INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  last    INTEGER NOT NULL CHECK (last >= 0),  -- the newest sequence given; whoever gives more locks this row first
  trimmed INTEGER NOT NULL CHECK (trimmed >= 0), -- events up to this one are not kept any more
  CONSTRAINT outbox_head_trimmed CHECK (trimmed <= last)
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO outbox_head (id, last, trimmed) VALUES (1, 0, 0);

-- How far each webhook has come with the events of this shard, and who sends them now.
CREATE TABLE IF NOT EXISTS deliveries (
  webhook_id    TEXT NOT NULL PRIMARY KEY,
  position      INTEGER NOT NULL CHECK (position >= 0), -- sequence of the last event that was taken
  failures      INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0), -- in a row
  failing_since INTEGER NOT NULL DEFAULT 0,    -- 0: the last attempt was well
  next_at       INTEGER NOT NULL DEFAULT 0,    -- no attempt before
  parked_at     INTEGER NOT NULL DEFAULT 0,    -- 0: not parked
  last_error    TEXT NOT NULL DEFAULT '',
  holder        TEXT NOT NULL DEFAULT '',      -- the instance that sends
  held_until    INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE IF EXISTS deliveries;
DROP TABLE IF EXISTS outbox_head;
DROP TABLE IF EXISTS outbox;
