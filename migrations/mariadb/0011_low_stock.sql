-- When the free units of a quota have become few, its history says so.

-- +goose Up
ALTER TABLE quotas ADD COLUMN IF NOT EXISTS low_at BIGINT NOT NULL DEFAULT 0 CHECK (low_at >= 0); -- 0: nobody wants to know

-- +goose Down
ALTER TABLE quotas DROP COLUMN IF EXISTS low_at;
