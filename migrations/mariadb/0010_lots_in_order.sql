-- The live lots of a purse in the order in which they are spent: of an owner with thousands, a hold reads the first ones only.

-- +goose Up
ALTER TABLE lots DROP KEY IF EXISTS lots_live, ADD KEY lots_live (bucket, owner, live, currency, expires_at);

-- +goose Down
ALTER TABLE lots DROP KEY IF EXISTS lots_live, ADD KEY lots_live (bucket, owner, live, currency);
