package main

// mutant is one protection taken away: old is replaced by new in file, and a test of pkg that matches tests must fail.
type mutant struct {
	name, file, old, new string
	pkg, tests           string
}

var mutants = []mutant{
	{
		name: "epoch-check", file: "shard/lane.go",
		old: "if uint64(t.fence) != l.cfg.Epoch {", new: "if false {",
		pkg: "./shard", tests: "TestStaleEpoch",
	},
	{
		name: "bucket-ownership", file: "shard/batch.go",
		old: "if _, ok := t.serving[op.Bucket]; !ok {", new: "if _, ok := t.serving[op.Bucket]; !ok && false {",
		pkg: "./shard", tests: "TestStaleEpoch",
	},
	{
		name: "duplicate-check", file: "shard/batch.go",
		old: "if o != nil && !o.aborted(op) {", new: "if false {",
		pkg: "./shard", tests: "TestOperationsAreDecidedOnce",
	},
	{
		name: "fingerprint", file: "shard/batch.go",
		old: "if !bytes.Equal(o.fingerprint, op.Fingerprint) {", new: "if false {",
		pkg: "./shard", tests: "TestOperationsAreDecidedOnce",
	},
	{
		name: "locking-read", file: "ledger/load.go",
		old: `q.v.EndForUpdate(" ORDER BY bucket, owner")`, new: `q.v.End(" ORDER BY bucket, owner")`,
		pkg: "./ledger", tests: "TestOnDatabases/mariadb",
	},
	{
		name: "lazy-expiry", file: "ledger/apply_settle.go",
		old: "case h.expiresAt <= s.now:", new: "case false:",
		pkg: "./ledger", tests: "TestC04AroundExpiry|TestScripts",
	},
	{
		name: "expiry-one-tick-late", file: "ledger/apply_settle.go",
		old: "case h.expiresAt <= s.now:", new: "case h.expiresAt < s.now:",
		pkg: "./ledger", tests: "TestC04AroundExpiry|TestScripts",
	},
	{
		name: "tombstone-of-settle", file: "shard/settle.go",
		old: "\ts.tombstones(p)\n", new: "",
		pkg: "./shard", tests: "TestSettle|TestTombstone",
	},
	{
		name: "tombstone-of-cancel", file: "ledger/apply_decide.go",
		old: "return s.bury(o, op)", new: "return refuse(unknownHold())",
		pkg: "./ledger", tests: "TestScripts",
	},
	{
		name: "row-count-guard", file: "shard/packet.go",
		old: "if v.counted && v.p.d.multi {", new: "if false {",
		pkg: "./shard", tests: "TestWrongRowCount",
	},
	{
		name: "unknown-outcome-is-retried", file: "shard/lane.go",
		old: `return fmt.Errorf("write a batch of %d: %w: %w", len(t.calls), errUndecided, err)`,
		new: `return fmt.Errorf("write a batch of %d: %w", len(t.calls), errStaleEpoch)`,
		pkg: "./shard", tests: "TestAnswerOfCommitLost",
	},
	{
		name: "hash-chain", file: "ledger/state.go",
		old: "appendHashed(s.buf[:0], o.head[:], ", new: "appendHashed(s.buf[:0], make([]byte, len(o.head)), ",
		pkg: "./ledger", tests: "TestOnDatabases/sqlite|TestC31Walk",
	},
	{
		name: "held-by-other-is-pinned", file: "ledger/apply.go",
		old: "if r.Reason == ErrHeldByOther {", new: "if false {",
		pkg: "./ledger", tests: "TestOnlyHeldByOther",
	},
	{
		name: "blacklist", file: "blacklist/blacklist.go",
		old: "func (b *Blacklist) Check(t Target, now time.Time) error {\n",
		new: "func (b *Blacklist) Check(t Target, now time.Time) error {\n\tif t.Owner != \"\" {\n\t\treturn nil\n\t}\n",
		pkg: "./api", tests: "TestBlocks$",
	},
	{
		name: "undecided-owner-is-not-blocked-here", file: "pending/resolver.go",
		old: "\trelease := r.block(records)\n", new: "\trelease := func() {}\n",
		pkg: "./pending", tests: "TestOwnersAreBlocked",
	},
	{
		name: "undecided-owner-is-not-blocked-elsewhere", file: "pending/resolver.go",
		old: "\tr.record(ctx, records)\n", new: "",
		pkg: "./pending", tests: "TestOwnersAreBlocked",
	},
	{
		name: "conservation-check-of-the-schema", file: "ledger/apply_decide.go",
		old: "l.Held -= amount", new: "l.Held -= amount - 1",
		pkg: "./ledger", tests: "TestC31Walk",
	},
	{
		name: "spending-order", file: "ledger/state.go",
		old: "cmp.Or(cmp.Compare(a.expiresAt, b.expiresAt)", new: "cmp.Or(cmp.Compare(b.expiresAt, a.expiresAt)",
		pkg: "./ledger", tests: "TestScripts|TestC31Walk",
	},
	{
		name: "withdrawn-calls-run", file: "shard/queue.go",
		old: "return c.state.CompareAndSwap(callQueued, callTaken)", new: "c.state.Store(callTaken)\n\treturn true",
		pkg: "./shard", tests: "TestQueueIsBounded",
	},
}
