package blacklist

// IsUndecided reports whether a record says that the outcome of an owner's key is being decided.
func (b *Blacklist) IsUndecided(shard, bucket uint16, owner, key string) bool {
	_, found := b.undecided.Get(recordKey{shard, bucket, owner, key}.String())
	return found
}
