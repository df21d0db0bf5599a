-- When the free units of a quota have become few, its history says so.

-- +goose Up
ALTER TABLE quotas ADD COLUMN low_at INTEGER NOT NULL DEFAULT 0 CHECK (low_at >= 0); -- 0: nobody wants to know

-- +goose Down
ALTER TABLE quotas DROP COLUMN low_at;
