-- The live lots of a purse in the order in which they are spent, as in ../mariadb.

-- +goose Up
DROP INDEX IF EXISTS lots_live;
CREATE INDEX IF NOT EXISTS lots_live ON lots (bucket, owner, live, currency, expires_at);

-- +goose Down
DROP INDEX IF EXISTS lots_live;
CREATE INDEX IF NOT EXISTS lots_live ON lots (bucket, owner, live, currency);
