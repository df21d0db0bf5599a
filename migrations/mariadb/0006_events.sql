-- Events: which entries a batch has added, one row per batch. Nobody knows in which order batches commit, so a row gets its sequence
-- later, from whoever sees it committed (docs/decisions/0020). The entries themselves are not repeated.

-- +goose Up
CREATE TABLE IF NOT EXISTS outbox (
  id     BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, -- of one owner's batches, the later one has the larger
  first  BIGINT NULL CHECK (first > 0),       -- sequence of the first event; NULL: not numbered yet
  events INT NOT NULL CHECK (events > 0),     -- so many sequences
  at     BIGINT NOT NULL,
  doc    MEDIUMBLOB NOT NULL,                 -- [["owner",from,to],…]: the entries, in the order of their events
  UNIQUE KEY outbox_first (first)             -- no two events have one sequence
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS outbox_head (
  id      TINYINT UNSIGNED NOT NULL PRIMARY KEY CHECK (id = 1),
  last    BIGINT NOT NULL CHECK (last >= 0),  -- the newest sequence given; whoever gives more locks this row first
  trimmed BIGINT NOT NULL CHECK (trimmed >= 0), -- events up to this one are not kept any more
  CONSTRAINT outbox_head_trimmed CHECK (trimmed <= last)
) ENGINE=InnoDB;

INSERT IGNORE INTO outbox_head (id, last, trimmed) VALUES (1, 0, 0);

-- How far each webhook has come with the events of this shard, and who sends them now.
CREATE TABLE IF NOT EXISTS deliveries (
  webhook_id    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  position      BIGINT NOT NULL CHECK (position >= 0), -- sequence of the last event that was taken
  failures      INT NOT NULL DEFAULT 0 CHECK (failures >= 0), -- in a row
  failing_since BIGINT NOT NULL DEFAULT 0,    -- 0: the last attempt was well
  next_at       BIGINT NOT NULL DEFAULT 0,    -- no attempt before
  parked_at     BIGINT NOT NULL DEFAULT 0,    -- 0: not parked
  last_error    VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
  holder        VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '', -- the instance that sends
  held_until    BIGINT NOT NULL DEFAULT 0
) ENGINE=InnoDB;

-- +goose Down
DROP TABLE IF EXISTS deliveries;
DROP TABLE IF EXISTS outbox_head;
DROP TABLE IF EXISTS outbox;
