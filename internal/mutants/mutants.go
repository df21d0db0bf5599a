package main

// mutant is one protection taken away: its edits are made, and a test of pkg that matches tests must fail.
type mutant struct {
	name       string
	edits      []edit
	pkg, tests string
}

// edit replaces old, which is in file exactly once, by new.
type edit struct{ file, old, new string }

// in is a mutation of one place.
func in(file, old, new string) []edit { return []edit{{file, old, new}} }

var mutants = []mutant{
	// Who may write.
	{
		name: "epoch-check", edits: in("shard/lane.go", "if t.fence != l.cfg.Epoch {", "if false {"),
		pkg: "./shard", tests: "TestStaleEpoch",
	},
	{
		name: "bucket-ownership", pkg: "./shard", tests: "TestForeignBucket",
		edits: in("shard/batch.go", "if !t.serving[op.Bucket] {", "if false {"),
	},
	{
		name: "bucket-lock", edits: in("shard/packet.go", "\tl.Tail += p.d.shareLock\n", ""),
		pkg: "./shard", tests: "TestBucketLeaves",
	},
	{
		name: "epoch-lock", pkg: "./shard", tests: "TestEpochRises",
		edits: in("shard/batch.go", `Joins: " JOIN fence f ON f.id=1"`, `Joins: " JOIN (SELECT id, epoch, floor_at FROM fence) f ON f.id=1"`),
	},
	{
		name: "epoch-is-read-with-the-lock", pkg: "./shard", tests: "TestBatchWaitsForTheEpoch",
		edits: in("shard/batch.go", `Joins: " JOIN fence f ON f.id=1"`, `Joins: " JOIN (SELECT id, epoch, floor_at FROM fence) f ON f.id=1"`),
	},
	{
		name: "locks-begin-with-the-transaction", pkg: "./shard", tests: "TestEpochRises",
		edits: in("shard/send.go", "\ts.late = s.late || st.after && s.texts > 0\n", "\ts.late = false\n"),
	},
	{
		name: "epoch-of-settle", edits: in("shard/settle.go", "if s.fence != s.epoch {", "if false {"),
		pkg: "./shard", tests: "TestSettleIsFenced",
	},
	{
		name: "locks-of-settle", pkg: "./shard", tests: "TestBatchWaitsForTheEpoch",
		edits: in("shard/batch.go", "p.selectShared(fences, scan)", "p.Select(fences, scan)"),
	},
	{
		name: "bucket-of-settle", edits: in("shard/settle.go", "if !s.serving[u.Bucket] {", "if false {"),
		pkg: "./shard", tests: "TestSettleIsFenced",
	},
	{
		name: "fence-of-reads", pkg: "./shard", tests: "TestReadsAreFenced",
		edits: in("shard/store.go", "if fence.Epoch != epoch || fence.Serving != len(buckets) {", "if false {"),
	},

	// The instance's side of a failover.
	{
		name: "lease-is-checked-after-the-read", pkg: "./shard", tests: "TestReadsOutliveTheirLease",
		edits: []edit{
			{"shard/store.go", "\t\terr = s.certify(ctx, route)\n", ""},
			{
				"shard/store.go", "\ttraced, span :=",
				"\tif err := s.certify(ctx, route); err != nil {\n\t\treturn route, err\n\t}\n\ttraced, span :=",
			},
		},
	},
	{
		name: "lease-of-refusals", pkg: "./shard", tests: "TestReadsOutliveTheirLease",
		edits: in("shard/store.go", "if r.isRefusal() {", "if false {"),
	},
	{
		name: "lease-is-of-one-epoch", pkg: "./shard", tests: "TestReadsOutliveTheirEpoch",
		edits: []edit{
			{"shard/lease.go", "if current != route.ofShard() {", "if false {"},
			{"shard/failover.go", "\tp.committer.Abandon()\n", "\tp.committer.abandoned.Store(true)\n"},
		},
	},
	{
		name: "closed-to-an-epoch-means-cut", pkg: "./shard", tests: "TestClosedIsSaid",
		edits: in("shard/failover.go", "\tp.committer.Abandon()\n", ""),
	},
	{
		name: "planned-fencing-lets-answers-arrive", pkg: "./shard", tests: "TestPlannedFencing",
		edits: in("shard/failover.go", "\t\tif route.Planned {\n", "\t\tif false {\n"),
	},
	{
		name: "closed-to-the-newest-epoch", pkg: "./shard", tests: "TestSwitchoverIsGivenUp",
		edits: in("shard/failover.go", "s.report(number, max(epoch, newest.Epoch))", "_ = newest\n\t\t\ts.report(number, epoch)"),
	},
	{
		name: "no-commit-after-the-epoch", pkg: "./shard", tests: "TestNoCommitIsSent",
		edits: in("shard/lane.go", "\tif l.abandoned.Load() {\n\t\tl.rollback(nil)", "\tif false {\n\t\tl.rollback(nil)"),
	},
	{
		name: "cut-frees-a-lane", pkg: "./shard", tests: "TestCutFrees",
		edits: in("shard/wires.go", "\t\t_ = c.Conn.Close()\n", ""),
	},
	{
		name: "who-waits-is-handed-back", pkg: "./shard", tests: "TestCutFrees",
		edits: in("shard/committer.go", "if waiting.take() {", "if false {"),
	},
	{
		name: "resolver-hears-of-routes", pkg: "./shard", tests: "TestUndecidedIsDecidedWhen",
		edits: in("pending/resolver.go", "\t\tcase <-changed:\n", "\t\tcase <-(chan struct{})(nil):\n\t\t\t_ = changed\n"),
	},
	{
		name: "dead-primary-is-waited-for", pkg: "./shard", tests: "TestDeadPrimary",
		edits: in("shard/store.go", "|| s.cfg.ReadLease > 0 && errors.Is(err, errUnreachable)", ""),
	},
	{
		name: "address-is-the-records", pkg: "./shard", tests: "TestDeadPrimary",
		edits: in("shard/db.go", `cfg.Net, cfg.Addr = "tcp", address`, `cfg.Net = "tcp"`),
	},
	{
		name: "a-new-session-says-all", pkg: "./internal/instance", tests: "TestInstanceFailsOver",
		edits: in("internal/instance/announcer.go", "\tmaps.Copy(a.due, a.lasting)\n", ""),
	},
	{
		name: "reads-begin-anew", pkg: "./ledger", tests: "TestReadsBeginAnew",
		edits: in("ledger/read.go", "\t\tpage = Page[Lot]{[]Lot{}, next}\n", "\t\tpage.Next = next\n"),
	},
	// Units of quotas.
	{
		name: "a-transfer-lands-once", pkg: "./ledger", tests: "TestTransfersLandOnce",
		edits: in("ledger/apply_quota.go", "return t.seq <= in, nil", "return false, nil"),
	},
	{
		name: "transfers-land-in-order", pkg: "./ledger", tests: "TestTransfersLandOnce",
		edits: in("ledger/apply_quota.go", "if t.seq > in+1 {", "if false {"),
	},
	{
		name: "one-transfer-between-two-ends", pkg: "./ledger", tests: "TestOneTransferAtATime",
		edits: in("ledger/apply_quota.go", "\tif g.out != nil {\n\t\top", "\tif false {\n\t\top"),
	},
	{
		name: "low-stock-is-said-once", pkg: "./ledger", tests: "TestQuotas/sqlite/LowStock",
		edits: in("ledger/apply_quota.go", "before <= h.lowAt || ", ""),
	},
	{
		name: "sold-out-asks-other-slices", pkg: "./ledger", tests: "TestQuotas/sqlite/Lifecycle",
		edits: in("ledger/quota_broker.go", "\t\tif number != at.shard {\n\t\t\tsum", "\t\tif number < 0 {\n\t\t\tsum"),
	},
	{
		name: "expired-holds-are-reclaimed", pkg: "./ledger", tests: "TestQuotas/sqlite/ExpiredHoldsAreReclaimed",
		edits: in("ledger/apply_quota.go", "return r.dueAt != 0 && r.dueAt <= now", "return false"),
	},
	{
		name: "a-shard-that-is-down-is-not-dry", pkg: "./ledger", tests: "TestQuotas/sqlite/ShardsAreDown",
		edits: in("ledger/quota_broker.go", "\t\tif err != nil {\n\t\t\treturn nil, err\n\t\t}\n\t\ts.available", "\t\ts.available"),
	},
	{
		name: "lines-of-one-sku-are-summed-up", pkg: "./ledger", tests: "TestQuotas/sqlite/SummedUp",
		edits: in("ledger/quota.go", "takes[at].amount += take.amount", "takes[at].amount = take.amount"),
	},
	{
		name: "left-transfers-are-finished", pkg: "./ledger", tests: "TestQuotas/sqlite/DeathAtEveryStep",
		edits: in("ledger/quota_broker.go", "\t\terr = errors.Join(err, l.broker.finish(ctx, &left[i]))\n", "\t\t_ = i\n"),
	},
	{
		name: "retryable-refusals-are-not-pinned", pkg: "./ledger", tests: "TestRetryableRefusals",
		edits: in("ledger/refusal.go", " || errors.Is(reason, ErrQuotaUnavailable)", ""),
	},
	{
		name: "slices-are-locked", pkg: "./ledger", tests: "TestQuotas/mariadb/SoldOutExactly",
		edits: in("ledger/quota_load.go", "p.SelectForUpdate(sliceLookup, b.scanSlice)", "p.Select(sliceLookup, b.scanSlice)"),
	},
	{
		name: "units-of-a-part-are-not-pending", pkg: "./ledger", tests: "TestQuotas/sqlite/Parts",
		edits: in("ledger/apply_confirm.go", "\th.quotas = rest.quotas\n", ""),
	},
	{
		name: "units-of-longer-holds-are-held-longer", pkg: "./ledger", tests: "TestQuotas/sqlite/Extended",
		edits: in("ledger/quota_write.go", "updated.row(), take).Int(take.amount).Int(h.expiresAt)",
			"updated.row(), take).Int(take.amount).Int(h.createdAt)"),
	},
	{
		name: "planning-in-a-place-moves-no-units", pkg: "./ledger", tests: "TestC31WalkOfUnits",
		edits: in("ledger/apply_extend.go", "\ts.freeQuotas(t.quotas, -1)\n", ""),
	},
	{
		name: "refunds-leave-units-used", pkg: "./ledger", tests: "TestQuotas/sqlite/Refunded",
		edits: in("ledger/apply_refund.go", "c.portions(op.Items, op.Amount, c.refundableOf)", "c.portions(op.Items, op.Amount, c.spent)"),
	},
	{
		name: "what-is-left-of-units-keeps-a-hold", pkg: "./ledger", tests: "TestQuotas/sqlite/Parts",
		edits: in("ledger/progress.go", "len(t.coupons)+len(t.lots)+len(t.quotas) == 0", "len(t.coupons)+len(t.lots) == 0"),
	},

	// Who may ask.
	{
		name: "blacklist", pkg: "./api", tests: "TestBlocks$",
		edits: in("blacklist/blacklist.go", "func (b *Blacklist) Check(t Target, now time.Time) error {\n",
			"func (b *Blacklist) Check(t Target, now time.Time) error {\n\tif t.Owner != \"\" {\n\t\treturn nil\n\t}\n"),
	},
	{
		name: "blocks-of-the-ledger", pkg: "./ledger", tests: "TestOnDatabases/sqlite/Blocks",
		edits: in("ledger/ledger.go", "if err := l.cfg.Blocks(owner, bucket); err != nil {\n\t\treturn Answer{}, err",
			"if err := error(nil); err != nil {\n\t\treturn Answer{}, err"),
	},
	{
		name: "scopes", edits: in("api/admit.go", "if !call.key.Scopes.Has(call.route.scope) {", "if false {"),
		pkg: "./api", tests: "TestEveryOperationNeedsItsScope",
	},
	{
		name: "revoked-keys", edits: in("access/key.go", "case !k.RevokedAt.IsZero():", "case false:"),
		pkg: "./access", tests: "TestRevoke",
	},

	// Once, and the same answer for ever.
	{
		name: "duplicate-check", edits: in("shard/batch.go", "if o != nil && !o.aborted(op) {", "if false {"),
		pkg: "./shard", tests: "TestOperationsAreDecidedOnce",
	},
	{
		name: "fingerprint", edits: in("shard/batch.go", "if !bytes.Equal(o.fingerprint, op.Fingerprint) {", "if false {"),
		pkg: "./shard", tests: "TestOperationsAreDecidedOnce",
	},
	{
		name: "fingerprint-of-a-tombstone", pkg: "./shard", tests: "TestSettleDecides",
		edits: in("shard/batch.go", "(seal || bytes.Equal(o.fingerprint, op.Fingerprint))", "(seal || op.Key != \"\")"),
	},
	{
		name: "seal-of-a-tombstone", pkg: "./shard", tests: "TestC50Seal",
		edits: in("shard/batch.go", "(seal || bytes.Equal(o.fingerprint, op.Fingerprint))", "!seal && bytes.Equal(o.fingerprint, op.Fingerprint)"),
	},
	{
		name: "sealed-keys", edits: in("shard/batch.go", "if o.verdict == Sealed {", "if o.verdict == Sealed && false {"),
		pkg: "./shard", tests: "TestOperationsAreDecidedOnce|TestC50Seal",
	},
	{
		name: "replays-of-another-epoch", pkg: "./shard", tests: "TestC22Replay",
		edits: in("shard/batch.go", "func (t *transaction) loadOperations(p *Packet) {\n", "func (t *transaction) loadOperations(p *Packet) {\n\toperationLookup := operationLookup\n\toperationLookup.Where = \"p.epoch=(SELECT epoch FROM fence)\"\n"),
	},
	{
		name: "keys-are-looked-up-before-a-refusal", pkg: "./ledger", tests: "TestReplays",
		edits: in("shard/batch.go", "\tcase !t.collided:\n", "\tcase false:\n"),
	},
	{
		name: "keys-are-looked-up-after-a-collision", pkg: "./ledger", tests: "TestReplays",
		edits: in("shard/batch.go", "\tif t.collided {\n", "\tif false {\n"),
	},
	{
		name: "orders-are-looked-up-before-a-refusal", pkg: "./ledger", tests: "TestOnDatabases/sqlite/SameReferenceLater",
		edits: in("ledger/apply_hold.go", "r.Verdict != shard.Done && !s.lookedUp && ", "r.Verdict != shard.Done && false && "),
	},
	{
		name: "reply-is-cut-one-byte-early", pkg: "./ledger", tests: "TestReplays",
		edits: in("shard/reply.go", "reply[q.At+q.Len:]...)", "reply[q.At+q.Len-1:]...)"),
	},
	{
		name: "reply-gets-a-whole-document", pkg: "./ledger", tests: "TestReplays",
		edits: in("shard/reply.go", "doc[1:]...), reply[at:]...)", "doc...), reply[at:]...)"),
	},
	{
		name: "quote-begins-one-byte-early", pkg: "./ledger", tests: "TestReplays",
		edits: in("ledger/encode.go", "At: len(b) - len(h.doc) + 1,", "At: len(b) - len(h.doc),"),
	},
	{
		name: "quote-ends-one-byte-early", pkg: "./ledger", tests: "TestReplays",
		edits: in("ledger/encode.go", "Len: len(h.doc) - 1}", "Len: len(h.doc) - 2}"),
	},
	{
		name: "quote-of-the-right-attempt", pkg: "./ledger", tests: "TestReplays",
		edits: in("ledger/encode.go", "Attempt: h.attempt, At:", "Attempt: 1, At:"),
	},
	{
		name: "document-of-the-right-attempt", pkg: "./ledger", tests: "TestReplays",
		edits: in("shard/reply.go", " AND o.attempt=p.attempt", ""),
	},
	{
		name: "document-of-the-right-attempt-in-reads", pkg: "./ledger", tests: "TestReplays",
		edits: in("ledger/load.go", " AND o.attempt=h.attempt", ""),
	},
	{
		name: "operations-are-shown-whole", pkg: "./ledger", tests: "TestReplays",
		edits: in("ledger/read.go", "shard.Restore(row.Reply, row.QuoteAt, row.Doc)", "row.Reply"),
	},
	{
		name: "foreign-operation-in-an-undecided-batch", pkg: "./shard", tests: "TestUndecidedBatchWithAForeign",
		edits: in("shard/lane.go", "\t\tcase err == nil:\n\t\t\tops = append", "\t\tcase err == nil || errors.Is(err, ErrStaleRoute):\n\t\t\tops = append"),
	},
	{
		name: "held-by-other-is-pinned", edits: in("ledger/apply.go", "if retryable(r.Reason) {", "if false {"),
		pkg: "./ledger", tests: "TestRetryableRefusals",
	},
	{
		name: "reference-of-an-issue", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/apply_issue.go", "op.IssueRef}]; c != nil {", "op.IssueRef}]; c != nil && false {"),
	},
	{
		name: "reference-of-a-hold", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/apply_hold.go", "case h.hash != op.hash || ", "case h.hash != op.hash && false || "),
	},

	// Outcomes that nobody heard.
	{
		name: "unknown-outcome-counts-as-none", pkg: "./shard", tests: "TestAnswerOfCommitLost",
		edits: in("shard/lane.go", `return fmt.Errorf("write a batch of %d: %w: %w", len(t.calls), errUndecided, err)`,
			`return fmt.Errorf("write a batch of %d: %w", len(t.calls), err)`),
	},
	{
		name: "unknown-outcome-is-run-again", pkg: "./shard", tests: "TestAnswerOfCommitLost",
		edits: in("shard/lane.go", "\t\t\tl.undecided(t)\n\t\t\treturn\n", "\t\t\tcontinue\n"),
	},
	{
		name: "unknown-before-commit-was-sent", pkg: "./shard", tests: "TestConnectionCutBeforeCommit",
		edits: in("shard/lane.go", "if !l.packet.commitsSent || ", "if "),
	},
	{
		name: "never-unknown", pkg: "./shard", tests: "TestAnswerOfCommitLost",
		edits: in("shard/send.go", "\tp.commitsSent = p.commits\n", "\tp.commitsSent = false\n"),
	},
	{
		name: "plain-read-decides", pkg: "./shard", tests: "TestSettleWaits",
		edits: []edit{
			{"shard/settle.go", "p.selectShared(operationLookup, s.scan)", "p.Select(operationLookup, s.scan)"},
			{"shard/settle.go", "\ts.tombstones(p)\n", ""},
			{"shard/settle.go", "\t\t\treturn nil, fmt.Errorf(\"a tombstone of", "\t\t\tout[i] = Settled{Verdict: Aborted}\n\t\t\t_ = fmt.Errorf(\"a tombstone of"},
		},
	},
	{
		name: "settle-writes-no-tombstone", pkg: "./shard", tests: "TestTombstoneStops",
		edits: []edit{
			{"shard/settle.go", "\ts.tombstones(p)\n", ""},
			{"shard/settle.go", "\t\t\treturn nil, fmt.Errorf(\"a tombstone of", "\t\t\tout[i] = Settled{Verdict: Aborted}\n\t\t\t_ = fmt.Errorf(\"a tombstone of"},
		},
	},
	{
		name: "settle-believes-any-request", pkg: "./shard", tests: "TestSettleTells",
		edits: in("shard/settle.go", "case !bytes.Equal(u.Fingerprint, found.fingerprint):", "case bytes.Equal(nil, found.fingerprint):"),
	},
	{
		name: "taken-calls-are-withdrawn", pkg: "./shard", tests: "TestDeadlineWhile",
		edits: in("shard/queue.go", "return c.state.CompareAndSwap(callQueued, callWithdrawn)", "c.state.Store(callWithdrawn)\n\treturn true"),
	},
	{
		name: "withdrawn-calls-run", pkg: "./shard", tests: "TestQueueIsBounded",
		edits: in("shard/queue.go", "return c.state.CompareAndSwap(callQueued, callTaken)", "c.state.Store(callTaken)\n\treturn true"),
	},
	{
		name: "undecided-owner-is-not-blocked-here", edits: in("pending/resolver.go", "\tdefer r.block(records)()\n", ""),
		pkg: "./pending", tests: "TestOwnersAreBlocked",
	},
	{
		name: "undecided-owner-is-not-blocked-elsewhere", edits: in("pending/resolver.go", "recorded = recorded || r.record(ctx, records)\n", "_ = recorded\n"),
		pkg: "./pending", tests: "TestOwnersAreBlocked",
	},
	{
		name: "late-take-over-of-a-tombstone", pkg: "./shard", tests: "TestAbortedIsFinal",
		edits: []edit{
			{"shard/batch.go", "\"bucket, owner, op_key, decided_at\")", "\"bucket, owner, op_key\")"},
			{"shard/batch.go", ".ASCII(o.key.key).Int(o.decidedAt)", ".ASCII(o.key.key)"},
		},
	},
	{
		name: "tombstone-is-not-renewed", pkg: "./shard", tests: "TestAbortedIsFinal",
		edits: in("shard/dialect.go", "GREATEST(decided_at+1,VALUES(decided_at))", "decided_at"),
	},
	{
		name: "records-of-the-dead-stay", pkg: "./pending", tests: "TestRunAdopts",
		edits: in("pending/resolver.go", "r.adopt(ctx, blacklist.AllShards, adoptAfter); err", "r.adopt(ctx, blacklist.AllShards, 24*time.Hour); err"),
	},
	{
		name: "records-go-before-the-decision", pkg: "./pending", tests: "TestOwnersAreBlocked|TestRecordsOfADead",
		edits: in("pending/resolver.go", "recorded = recorded || r.record(ctx, records)\n", "recorded = recorded || r.record(ctx, records)\n\t\tr.forget(ctx, records)\n"),
	},
	{
		name: "outcome-of-504", edits: in("api/problem.go", "if errors.Is(err, shard.ErrOutcomeUnknown) || known == nil", "if known == nil"),
		pkg: "./api", tests: "TestDocuments|TestShardErrors|TestDeadline",
	},

	// Batches, and instances side by side.
	{
		name: "locking-read", pkg: "./ledger", tests: "TestOnDatabases/mariadb",
		edits: in("ledger/load.go", "locked := p.SelectForUpdate(", "locked := p.Select("),
	},
	{
		name: "races-are-run-again", pkg: "./shard", tests: "TestTwoInstances|TestDeadlockIsARace",
		edits: in("shard/committer.go", "return f == faultRetry || f == faultDuplicate", "return f == faultRetry && f == faultDuplicate"),
	},
	{
		name: "collisions-are-looked-up", pkg: "./ledger", tests: "TestOnDatabases",
		edits: in("ledger/machine.go", "b.lookedUp = collided", "b.lookedUp = collided && false"),
	},
	{
		name: "guilty-operation-fails-alone", pkg: "./shard", tests: "TestPoisoned",
		edits: in("shard/lane.go", "case f == faultBug || f == faultLarge:", "case f == faultLarge:"),
	},
	{
		name: "row-count-guard", edits: in("shard/send.go", "if st.counted() {", "if false {"),
		pkg: "./shard", tests: "TestWrongRowCount/mariadb",
	},
	{
		name: "row-count-guard-stops-commit", edits: in("shard/packet.go", `p.exec("SET @bad=IF(`, `p.exec("DO IF(`),
		pkg: "./shard", tests: "TestWrongRowCount/mariadb",
	},
	{
		name: "row-count-of-sqlite", edits: in("shard/send.go", "if err == nil && n != int64(want) {", "if err == nil && n < 0 {"),
		pkg: "./shard", tests: "TestWrongRowCount/sqlite",
	},
	{
		name: "paused-instance-keeps-rows", edits: in("shard/db.go", `"idle_transaction_timeout": "3"`, `"idle_transaction_timeout": "0"`),
		pkg: "./shard", tests: "TestPausedInstance",
	},
	{
		name: "queue-is-fair", edits: in("shard/queue.go", " || q.clients[c.op.Client] >= (q.limit+1)/2", ""),
		pkg: "./shard", tests: "TestQueueIsBounded",
	},

	// How batches travel.
	{
		name: "row-of-types", pkg: "./shard", tests: "TestListsHaveRoom|TestKeysOfAnyLength",
		edits: in("shard/send.go", "cols: cols, typed: key.kinds, placeholders", "cols: cols, placeholders"),
	},
	{
		name: "texts-too-long-for-their-type", pkg: "./shard", tests: "TestListsHaveRoom|TestBatchesOfEverySize",
		edits: []edit{
			{"shard/dialect.go", "widestASCII  = 64", "widestASCII  = 32"},
			{"shard/send.go", "if len(v) > widestASCII {", "if false {"},
		},
	},
	{
		name: "binaries-too-long-for-their-type", pkg: "./shard", tests: "TestListsHaveRoom|TestBatchesOfEverySize",
		edits: in("shard/send.go", "if len(v) > widestBinary {", "if false {"),
	},
	{
		name: "filled-up-with-zeros", pkg: "./shard", tests: "TestFilledLists",
		edits: in("shard/send.go", "args = append(args, driver.NamedValue{})", "args = append(args, driver.NamedValue{Value: int64(0)})"),
	},
	{
		name: "filled-up-with-the-last-row", pkg: "./shard", tests: "TestFilledLists",
		edits: in("shard/send.go", "args = append(args, driver.NamedValue{})", "args = append(args, driver.NamedValue{Value: args[len(args)-st.cols].Value})"),
	},
	{
		name: "row-count-of-prepared-writes", pkg: "./shard", tests: "TestMissingRow",
		edits: in("shard/send.go", "\treturn checkCount(st, result, rows)\n", "\t_ = checkCount(st, result, rows)\n\treturn nil\n"),
	},
	{
		name: "each-chunk-has-its-rows", pkg: "./shard", tests: "TestBatchesOfEverySize|TestFilledLists",
		edits: in("shard/send.go", "s.args[st.first+from*st.cols:st.first+(from+rows)*st.cols]", "s.args[st.first:st.first+rows*st.cols]"),
	},
	{
		name: "rest-of-a-long-insert", pkg: "./shard", tests: "TestBatchesOfEverySize|TestFilledLists",
		edits: in("shard/send.go", "|| done < st.rows {", "|| done == 0 {"),
	},
	{
		name: "order-of-locks", pkg: "./shard", tests: "TestRowsAreLocked",
		edits: in("shard/dialect.go", `orderedJoin: "STRAIGHT_JOIN"`, `orderedJoin: "JOIN"`),
	},
	{
		name: "order-of-owners", pkg: "./ledger", tests: "TestOwnersAreLocked",
		edits: in("ledger/load.go", "\tslices.SortFunc(b.listed, (*ownerRow).compare)\n", ""),
	},
	{
		name: "columns-of-a-spent-lot", pkg: "./ledger", tests: "TestOnDatabases/sqlite/Lifecycle",
		edits: in("ledger/write.go", "return l.Available+l.Held == l.was.Available+l.was.Held && ", "return l.Available >= 0 || "),
	},
	{
		name: "columns-of-a-history", pkg: "./ledger", tests: "TestOnDatabases/sqlite/(Lifecycle|History)",
		edits: []edit{
			{"ledger/write.go", "if o.stored && o.entrySeq == o.storedSeq {", "if o.stored {"},
			{"ledger/write.go", "if o.stored && o.entrySeq != o.storedSeq {", "if false {"},
		},
	},
	{
		name: "statements-of-a-dead-connection", pkg: "./shard", tests: "TestLongListsOnANew",
		edits: in("shard/lane.go", "\t\tl.conn, l.ready = conn, prepared{}\n", "\t\tl.conn = conn\n\t\tif l.ready == nil {\n\t\t\tl.ready = prepared{}\n\t\t}\n"),
	},
	{
		name: "failed-batch-is-undone", pkg: "./shard", tests: "TestConstraintInTheMiddle",
		edits: in("shard/lane.go", `ExecContext(ctx, "ROLLBACK")`, `ExecContext(ctx, "COMMIT")`),
	},
	{
		name: "escapes", pkg: "./shard", tests: "TestBatchesOfEverySize/mariadb|TestPacketText",
		edits: in("shard/dialect.go", "esc = `\\\\`", "continue"),
	},
	{
		name: "binary-values-have-no-characters", pkg: "./shard", tests: "TestBatchesOfEverySize/mariadb",
		edits: in("shard/db.go", `"character_set_client": "'ascii'"`, `"character_set_client": "'latin1'"`),
	},

	// Holds.
	{
		name: "lazy-expiry", edits: in("ledger/apply_settle.go", "case h.expiresAt <= s.now:", "case false:"),
		pkg: "./ledger", tests: "TestC04AroundExpiry|TestScripts",
	},
	{
		name: "expiry-one-tick-late", edits: in("ledger/apply_settle.go", "case h.expiresAt <= s.now:", "case h.expiresAt < s.now:"),
		pkg: "./ledger", tests: "TestC04AroundExpiry|TestScripts",
	},
	{
		name: "tombstone-of-cancel", edits: in("ledger/apply_decide.go", "return s.bury(o, op)", "return refuse(unknownHold())"),
		pkg: "./ledger", tests: "TestScripts",
	},
	{
		name: "hold-ends-once", edits: in("ledger/apply_decide.go", "if _, ok := next(h.state, e); !ok {", "if _, ok := next(h.state, e); !ok && false {"),
		pkg: "./ledger", tests: "TestScripts|TestC31Walk",
	},
	{
		name: "ended-while-held-comes-back", edits: in("ledger/apply_decide.go", "case l.expiresAt <= s.now:", "case false:"),
		pkg: "./ledger", tests: "TestScripts",
	},
	{
		name: "all-or-nothing", edits: in("ledger/apply_hold.go", "case it.amount > have:", "case it.amount > have && len(op.Items) == 1:"),
		pkg: "./ledger", tests: "TestScripts|TestC31Walk",
	},
	{
		name: "held-money-is-given-back-whole", edits: in("ledger/apply_decide.go", "l.Held -= amount", "l.Held -= amount - 1"),
		pkg: "./ledger", tests: "TestC31Walk",
	},
	{
		name: "no-more-than-is-left", pkg: "./ledger", tests: "TestScripts|TestC31Walk",
		edits: in("ledger/apply_confirm.go", "amount.Amount > have {", "amount.Amount > have && false {"),
	},
	{
		name: "no-more-of-an-item-than-is-left", pkg: "./ledger", tests: "TestScripts|TestC31Walk",
		edits: in("ledger/apply_confirm.go", "\tif asked > have {", "\tif asked > have && false {"),
	},
	{
		name: "refunded-lines-are-remembered", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/apply_refund.go", "\t\tcase given[at]:", "\t\tcase given[at] && false:"),
	},
	{
		name: "refund-reference", pkg: "./ledger", tests: "TestScripts|TestGrownHolds/sqlite",
		edits: in("ledger/apply_refund.go", "op.RefundRef}]; known != nil {", "op.RefundRef}]; known != nil && false {"),
	},
	{
		name: "refund-to-the-last-lots-first", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/progress.go", "for i := len(part.Lots) - 1; i >= 0; i-- {", "for i := range part.Lots {"),
	},
	{
		name: "refund-is-checked-before", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/apply_refund.go", "\tif !h.refundable() {", "\tif !h.refundable() && false {"),
	},
	{
		name: "late-takes-all-or-nothing", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/apply_confirm.go", "if have < take.amount {", "if have < take.amount && false {"),
	},
	{
		name: "late-happens-once", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/apply_decide.go", "h.state == Expired && h.successor() == \"\":", "h.state == Expired:"),
	},
	{
		name: "old-hold-stays-if-it-cannot-be-replaced", pkg: "./ledger", tests: "TestScripts|TestC31Walk",
		edits: in("ledger/apply_extend.go", "s.lots[take.id].LotCounters = lots[i]", "s.lots[take.id].Expired = lots[i].Expired"),
	},
	{
		name: "part-confirmed-stays-confirmed", pkg: "./ledger", tests: "TestScripts|TestC31Walk",
		edits: in("ledger/apply_decide.go", "\t\tedge = EventRelease\n", ""),
	},
	{
		name: "nobody-approves-his-own-proposal", pkg: "./ledger", tests: "TestScripts/adjustments",
		edits: in("ledger/adjustment_apply.go", "if op.by.KeyID == a.notes.ProposedBy.KeyID {", "if false {"),
	},
	{
		name: "a-proposal-is-decided-once", pkg: "./ledger", tests: "TestScripts/adjustments",
		edits: in("ledger/adjustment_apply.go", "if state := a.stateAt(s.now); state != adjustmentProposed {", "if state := a.stateAt(s.now); false {"),
	},
	{
		name: "a-proposal-ends", pkg: "./ledger", tests: "TestScripts/adjustments",
		edits: in("ledger/adjustment_rows.go", "if a.state == adjustmentProposed && a.endsAt <= now {", "if false {"),
	},
	{
		name: "a-proposal-moves-nothing", pkg: "./ledger", tests: "TestScripts/adjustments",
		edits: in("ledger/adjustment_apply.go", "\tif op.proposed {\n", "\tif op.proposed && false {\n"),
	},
	{
		name: "an-unnamed-currency-needs-approval", pkg: "./ledger", tests: "TestApprovalIsNeeded",
		edits: in("ledger/adjustment.go", "max(delta, -delta) > p.Above[currency]", "p.Above[currency] > 0 && max(delta, -delta) > p.Above[currency]"),
	},
	{
		name: "what-is-taken-needs-approval", pkg: "./ledger", tests: "TestApprovalIsNeeded",
		edits: in("ledger/adjustment.go", "max(delta, -delta) > p", "delta > p"),
	},
	{
		name: "schema-of-two-keys", pkg: "./ledger", tests: "TestGrownHolds/sqlite/TwoKeysInTheSchema",
		edits: in("migrations/sqlite/0013_operators.sql", " AND decided_by <> proposed_by)", ")"),
	},
	{
		name: "frozen-owner", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/apply_hold.go", "\tif o.frozen {", "\tif o.frozen && false {"),
	},
	{
		name: "extension-has-a-limit", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/apply_extend.go", "\tif expiresAt > limit {", "\tif expiresAt > limit && false {"),
	},
	{
		name: "extension-is-never-earlier", pkg: "./api", tests: "TestExtendAndPin",
		edits: in("ledger/apply_extend.go", "h.expiresAt = max(h.expiresAt, expiresAt)", "h.expiresAt = expiresAt"),
	},
	{
		name: "dry-run-writes-nothing", pkg: "./api", tests: "TestDryRun",
		edits: in("shard/rehearse.go", "func (c *call) dry() bool { return c.op.Dry }", "func (c *call) dry() bool { return false }"),
	},
	{
		name: "stacking", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/stacking.go", "> c.terms.MaxPerGroup {", "> c.terms.MaxPerGroup+1 {"),
	},
	{
		name: "over-capture-has-a-limit", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/apply_over.go", "over > room {", "over > room+MaxAmount {"),
	},
	{
		name: "over-capture-needs-money", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/apply_over.go", "\tif left > 0 {", "\tif left < 0 {"),
	},
	{
		name: "over-capture-of-a-frozen-owner", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/apply_over.go", "if o.frozen {", "if false {"),
	},
	{
		name: "over-capture-keeps-to-tags", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/apply_over.go", `&& (it.Tag == "" || it.Tag == l.tag)`, ""),
	},
	{
		name: "over-captured-money-is-counted-on", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/apply_over.go", "\t\tover = c.parts[c.items]\n", "\t\tover = Part{}\n"),
	},
	{
		name: "over-captured-money-is-of-no-line", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/apply_refund.go", "range c.body.Items[:c.items] { //", "range c.body.Items { //"),
	},
	{
		name: "money-of-the-past-knows-parts", pkg: "./ledger", tests: "TestMoneyAt/sqlite",
		edits: in("ledger/export.go", "\t\t\t\theld[share.LotID] -= parted[gone]\n", ""),
	},
	{
		name: "refunds-load-over-captured-lots", pkg: "./ledger", tests: "TestGrownHolds/sqlite/OverCapture",
		edits: in("ledger/load_grown.go", "h.progress != nil && h.progress.OverCaptured != nil {", "false {"),
	},
	{
		name: "late-confirms-find-their-units", pkg: "./ledger", tests: "TestQuotas/sqlite/LateBorrows",
		edits: in("ledger/apply_confirm.go", "\tif len(lacks) > 0 {", "\tif false {"),
	},
	{
		name: "late-confirms-do-not-borrow-in-vain", pkg: "./ledger", tests: "TestQuotas/sqlite/LateInVain",
		edits: in("ledger/apply_confirm.go", "gone...); len(gone) > 0 {", "gone...); len(gone) > 0 && len(lacks) == 0 {"),
	},
	{
		name: "late-confirms-say-what-is-sold", pkg: "./ledger", tests: "TestQuotas/sqlite/LateBorrows",
		edits: in("ledger/quota_hold.go", "|| !short.due && slices.Contains(q.dry, need.quota):\n\t\t\tgone", "|| false:\n\t\t\tgone"),
	},
	{
		name: "coupons-limit-all-discounts", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/stacking.go", "if most == 0 || c.terms.MaxDiscount.Amount < most {", "if most == 0 {"),
	},
	{
		name: "one-grace-for-each-coupon", pkg: "./ledger", tests: "TestScripts",
		edits: in("ledger/apply_decide.go", "c.expiresAt, c.terms.ReturnGraceMs, c.extended = at+grace*1000, 0, true",
			"c.expiresAt, c.extended = at+grace*1000, true"),
	},
	{
		name: "grace-from-the-end-of-the-hold", pkg: "./ledger", tests: "TestGrownHolds/sqlite/ReturnGrace",
		edits: in("ledger/apply_decide.go", "\t\tat = c.heldUntil\n", ""),
	},
	{
		name: "claims-have-the-terms-of-their-campaign", pkg: "./ledger", tests: "TestCampaigns/sqlite/TermsOfCoupons",
		edits: in("ledger/campaign_apply.go", ", terms: op.rules.Terms,", ","),
	},
	{
		name: "issues-inherit-terms", pkg: "./ledger", tests: "TestCampaigns/sqlite/TermsOfCoupons",
		edits: in("ledger/apply_issue.go", "return op.Terms.or(op.rules.Terms).plain()", "return op.Terms.plain()"),
	},
	{
		name: "inherited-limits-are-in-the-currency", pkg: "./ledger", tests: "TestCampaigns/sqlite/TermsOfCoupons",
		edits: in("ledger/apply_issue.go", "most != (Money{}) && most.Currency != op.Discount.Currency {", "false {"),
	},
	{
		name: "spending-order", pkg: "./ledger", tests: "TestScripts|TestC31Walk",
		edits: in("ledger/crowd.go", "cmp.Or(cmp.Compare(a.expiresAt, b.expiresAt)", "cmp.Or(cmp.Compare(b.expiresAt, a.expiresAt)"),
	},
	{
		name: "part-is-too-small", pkg: "./ledger", tests: "TestBatchesChangeNothing",
		edits: in("ledger/crowd.go", "part.loaded == part.limit && part.free < part.asked", "false"),
	},
	{
		name: "part-has-sums", pkg: "./ledger", tests: "TestBatchesChangeNothing",
		edits: in("ledger/crowd.go", "part.available, part.held = available, held", "part.available, part.held = held, available"),
	},
	{
		name: "hash-chain", pkg: "./ledger", tests: "TestOnDatabases/sqlite|TestC31Walk",
		edits: in("ledger/state.go", "appendHashed(s.buf[:0], o.head[:], ", "appendHashed(s.buf[:0], make([]byte, len(o.head)), "),
	},

	// The register on etcd.
	{
		name: "guard-of-the-leader", pkg: "./register", tests: "TestEtcd$",
		edits: in("register/etcd.go", "conds = append(conds, guard.cond())", "_ = guard.cond()"),
	},
	{
		name: "transactions-are-sent-once", pkg: "./register", tests: "TestEtcdSendsOnce",
		edits: in("register/etcd.go", "MaxUnaryRetries: 1,", "MaxUnaryRetries: 2,"),
	},
	{
		name: "linearizable-conditions", pkg: "./register", tests: "TestEtcdFaults",
		edits: in("register/etcd.go", "look := e.conds(txn.If), clientv3.OpGet(e.prefix)",
			"look := e.conds(txn.If), clientv3.OpGet(e.prefix, clientv3.WithSerializable())"),
	},
	{
		name: "one-revision-of-a-list", pkg: "./register", tests: "TestEtcd$",
		edits: in("register/etcd.go", ", clientv3.WithRev(rev))", ")"),
	},
	{
		name: "watches-without-leader", pkg: "./register", tests: "TestEtcdFaults",
		edits: in("register/etcd_watch.go", "clientv3.WithRequireLeader(ctx)", "ctx"),
	},

	// The schema says it again.
	{
		name: "conservation-check-of-the-schema", pkg: "./cmd/statesvc", tests: "TestSchemaRefuses",
		edits: []edit{
			{"migrations/mariadb/0001_ledger.sql", "CHECK (issued = available + held + spent + expired + revoked)", "CHECK (issued > 0)"},
			{"migrations/sqlite/0001_ledger.sql", "CHECK (issued = available + held + spent + expired + revoked)", "CHECK (issued > 0)"},
		},
	},
	{
		name: "counters-of-the-schema", pkg: "./cmd/statesvc", tests: "TestSchemaRefuses",
		edits: []edit{
			{"migrations/mariadb/0001_ledger.sql", "available  BIGINT NOT NULL CHECK (available >= 0)", "available  BIGINT NOT NULL"},
			{"migrations/sqlite/0001_ledger.sql", "available  INTEGER NOT NULL CHECK (available >= 0)", "available  INTEGER NOT NULL"},
		},
	},
	{
		name: "unique-keys-of-the-schema", pkg: "./cmd/statesvc", tests: "TestSchemaRefuses",
		edits: in("migrations/mariadb/0001_ledger.sql", "PRIMARY KEY (bucket, owner, op_key)", "KEY (bucket, owner, op_key)"),
	},

	// A node of a failing shard.
	{
		name: "node-is-drained-first", pkg: "./failover", tests: "TestPromises",
		edits: in("failover/node_promote.go", "if applied.Compare(must) < 0 ||", "if false && applied.Compare(must) < 0 ||"),
	},
	{
		name: "node-keeps-its-promise", pkg: "./failover", tests: "TestPromises",
		edits: []edit{
			{"failover/node_session.go", "if promised > epoch || promised == epoch && row", "if false && row"},
			{"failover/node_session.go", " AND (epoch<? OR epoch=? AND holder<=?)", " AND (epoch<? OR epoch=? OR ''<=?)"},
		},
	},
	{
		name: "node-knows-earlier-leaders", pkg: "./failover", tests: "TestPromises",
		edits: []edit{
			{"failover/node_session.go", "|| promised == epoch && row[\"holder\"] > holder {", "{"},
			{"failover/node_session.go", " AND (epoch<? OR epoch=? AND holder<=?)", " AND (epoch<? OR epoch=? AND ''<=?)"},
		},
	},
	{
		name: "door-is-the-leaders", pkg: "./failover", tests: "TestPromises",
		edits: []edit{
			{"failover/node_door.go", "if err := refuseOld(ctx, conn, epoch, s.holder); err != nil {", "if err := ctx.Err(); err != nil {"},
			{"failover/node_door.go", "\t\terr := refuseOld(ctx, conn, epoch, s.holder)\n", "\t\terr := error(nil)\n"},
		},
	},
	{
		name: "door-is-beside-the-session", pkg: "./failover", tests: "TestEstablish",
		edits: in("failover/node_door.go", "\treturn n.failed(step, n.door.use(", "\tif err := n.take(ctx); err != nil {\n\t\treturn err\n\t}\n"+
			"\tdefer n.give()\n\treturn n.failed(step, n.door.use("),
	},
	{
		name: "heartbeats-are-the-primarys", pkg: "./failover", tests: "TestPromises",
		edits: in("failover/node_beat.go", "WHERE @@global.read_only=0", "WHERE 1=1"),
	},
	{
		name: "node-is-fenced-before-it-is-promoted", pkg: "./failover", tests: "TestPromises",
		edits: in("failover/node_promote.go", "err != nil || len(ids) > 0 {", "err != nil || len(ids) > 99 {"),
	},
	{
		name: "node-releases-nobody-who-waits", pkg: "./failover", tests: "TestFenceOfHungPrimary",
		edits: in("failover/node_promote.go", "if status.SemiSync.PrimaryEnabled {", "if false {"),
	},
	{
		name: "node-waits-for-acknowledgements", pkg: "./failover", tests: "TestFactsOfSwitches|TestEstablish",
		edits: in("failover/node_establish.go", "case !s.SemiSync.PrimaryEnabled || !s.SemiSync.PrimaryOn ||", "case"),
	},
	{
		name: "node-opens-for-its-own-epoch", pkg: "./failover", tests: "TestEstablish|TestPromises",
		edits: in("failover/node_establish.go", "if status.Epoch != epoch || status.PrimaryID", "if false && status.PrimaryID"),
	},
	{
		name: "semi-sync-begins-with-the-promotion", pkg: "./failover", tests: "TestEstablish",
		edits: []edit{
			{"failover/node_promote.go", "rpl_semi_sync_slave_enabled=0, rpl_semi_sync_master_enabled=1\"", "rpl_semi_sync_slave_enabled=0\""},
			{"failover/node_establish.go", "\tcase !s.SemiSync.PrimaryEnabled ||", "\tcase false &&"},
			{"failover/node_establish.go", "case after.SemiSync.YesTx <= before.SemiSync.YesTx:", "case false:"},
		},
	},
	{
		name: "acknowledged-before-it-is-seen", pkg: "./failover", tests: "TestQuiesced",
		edits: in("failover/settings.go", "wait_point=AFTER_SYNC", "wait_point=AFTER_COMMIT"),
	},
	{
		name: "acknowledgements-are-waited-for", pkg: "./failover", tests: "TestFactsOfWaiting",
		edits: in("failover/settings.go", "timeout=31536000000", "timeout=100"),
	},
	{
		name: "one-history", pkg: "./failover", tests: "TestFactsOfStrict",
		edits: []edit{
			{"failover/settings.go", "\"gtid_strict_mode=1\"", "\"gtid_strict_mode=0\""},
			{"failover/node_promote.go", "SET GLOBAL gtid_strict_mode=1", "SET GLOBAL gtid_strict_mode=0"},
		},
	},

	// A failover.
	{
		name: "all-ackers-are-heard", pkg: "./failover", tests: "TestElect$",
		edits: in("failover/elect.go", "len(missing) > 0 && !s.floorSuffices()", "len(missing) > 1 && !s.floorSuffices()"),
	},
	{
		name: "all-ackers-are-heard-in-the-simulator", pkg: "./failover", tests: "TestSimulator",
		edits: []edit{
			{"failover/elect.go", "len(missing) > 0 && !s.floorSuffices()", "len(missing) > 1 && !s.floorSuffices()"},
			{"failover/sim_fleet_test.go", "n.io) {\n\t\t\ts.fail(\"H2", "n.io) && false {\n\t\t\ts.fail(\"H2"},
		},
	},
	{
		name: "candidate-is-drained", pkg: "./failover", tests: "TestScripts",
		edits: in("failover/step.go", "if !s.drained(elected) {", "if false {"),
	},
	{
		name: "received-counts-not-applied", pkg: "./failover", tests: "TestElect$",
		edits: in("failover/elect.go", "\treturn f.Received\n", "\treturn f.Applied\n"),
	},
	{
		name: "wrong-clocks-are-chosen-last", pkg: "./failover", tests: "TestElect$",
		edits: in("failover/elect.go", "if s.skewed(a) != s.skewed(b) {", "if false {"),
	},
	{
		name: "floor", pkg: "./failover", tests: "TestElect$",
		edits: in("failover/elect.go", "if e.position.Compare(s.Record.Floor) < 0 {", "if false {"),
	},
	{
		name: "start-ids-of-ackers", pkg: "./failover", tests: "TestElect$",
		edits: []edit{
			{"failover/elect.go", "if fenced, ok := s.Run.Fenced[node]; !ok || fenced.StartID != startID ||", "if fenced, ok := s.Run.Fenced[node]; !ok || startID == \"\" ||"},
			{"failover/elect.go", "if !ok || fenced.StartID != s.Record.heard()[node] {", "if !ok {"},
		},
	},
	{
		name: "joining-is-not-elected", pkg: "./failover", tests: "TestElect$",
		edits: in("failover/elect.go", "startID, member := s.Record.InSync[node]", "startID, member := s.Record.heard()[node]"),
	},
	{
		name: "read-leases-are-waited-for", pkg: "./failover", tests: "TestReadLeases",
		edits: in("failover/step.go", "return len(s.Holding) > 0 && s.waited() < leaseWait", "return false"),
	},
	{
		name: "read-leases-in-the-simulator", pkg: "./failover", tests: "TestSimulator",
		edits: in("failover/step.go", "return len(s.Holding) > 0 && s.waited() < leaseWait", "return false"),
	},
	{
		name: "facts-are-of-one-run", pkg: "./failover", tests: "TestFinishOf",
		edits: in("failover/loop.go", "if o.run != l.run.ID {\n\t\treturn", "if false {\n\t\treturn"),
	},
	{
		name: "suspicions-grow-old", pkg: "./failover", tests: "TestSuspicionsGrowOld",
		edits: in("failover/controller.go", "now.Sub(c.suspect[e.Key].at) <= suspectMemory", "true"),
	},
	{
		name: "tripwires", pkg: "./failover", tests: "TestTripwire",
		edits: in("failover/step.go", "if why := s.tripwire(); why != \"\" {", "if why := s.tripwire(); false {"),
	},
	{
		name: "tripwires-count-from-the-proof", pkg: "./failover", tests: "TestServeCounts",
		edits: in("failover/change.go", "r.NoTx = s.Run.NoTx", "r.NoTx = s.Seen[r.Primary].SemiSync.NoTx"),
	},
	{
		name: "the-others-have-what-it-acknowledged", pkg: "./failover", tests: "TestHeal",
		edits: in("failover/heal.go", "s.Seen[node].Received.Compare(refused.Position) < 0", "refused.StartID == \"\""),
	},
	{
		name: "admitted-with-everything", pkg: "./failover", tests: "TestHeal",
		edits: in("failover/heal.go", "return seen.Received.Compare(primary) >= 0 &&", "return"),
	},
	{
		name: "broken-nodes-stay-out", pkg: "./failover", tests: "TestHeal",
		edits: in("failover/heal.go", "return !other && seen.SQLErrno == 0 && (", "return !other && ("),
	},
	{
		name: "only-what-is-shared-comes-in", pkg: "./failover", tests: "TestHeal",
		edits: []edit{
			{"failover/heal.go", "|| seen.Executed.Compare(shared) > 0 ", ""},
			{"failover/heal.go", "|| seen.Executed.diverged(shared)", ""},
		},
	},
	{
		name: "a-run-chooses-once", pkg: "./failover", tests: "TestRunChoosesOnce",
		edits: in("failover/change.go", "run.Chosen = election{candidate: a.Node, position: a.GTID}", ""),
	},
	{
		name: "followers-are-processes", pkg: "./failover", tests: "TestFollowersAreProcesses",
		edits: in("failover/state.go", "return ok && followed == s.Record.link(node)", "return ok && followed.primary == s.Record.PrimaryStart"),
	},
	{
		name: "nobody-waits-for-who-was-never-let-in", pkg: "./failover", tests: "TestElect$",
		edits: in("failover/elect.go", "joining && fenced.IOErrno == errDiverged {", "joining && false {"),
	},
	{
		name: "relay-logs-are-kept", pkg: "./failover", tests: "TestRenewForgets",
		edits: in("failover/node_session.go", "!status.stalled() || !status.receives() {", "!status.stalled() {"),
	},
	{
		name: "stalled-candidates-are-not-waited-for", pkg: "./failover", tests: "TestElect$",
		edits: in("failover/elect.go", "fenced.SQLRunning && (!s.fresh(node) || !seen.cannotApply())", "fenced.SQLRunning"),
	},
	{
		name: "lanes-rest-while-a-replica-is-behind", pkg: "./shard", tests: "TestLanesRest",
		edits: in("shard/lane.go", "if l.slow.Load() {", "if false {"),
	},
	{
		name: "records-slow-lanes", pkg: "./shard", tests: "TestRecordSlowsLanes",
		edits: in("shard/failover.go", "s.pace(route.Shard, next.committer)", ""),
	},
	{
		name: "a-switchover-promises-by-leadership", pkg: "./failover", tests: "TestQuiesced",
		edits: in("failover/order.go", "primary.Claim(ctx, r.Epoch, l.cfg.holder())", "primary.Claim(ctx, r.Epoch, r.Run)"),
	},
	{
		name: "external-shards-are-left-alone", pkg: "./failover", tests: "TestExternalIsNot",
		edits: in("failover/loop.go", "; ok && !s.Record.External {", "; ok {"),
	},
	{
		name: "agent-kills", pkg: "./failover", tests: "TestJudge",
		edits: in("failover/agent.go", "case record.Phase == shard.PhaseFencing && ", "case false && "),
	},
	{
		name: "agent-knows-plans", pkg: "./failover", tests: "TestJudge",
		edits: in("failover/agent.go", "record.Phase == shard.PhaseFencing && !record.Planned && ", "record.Phase == shard.PhaseFencing && "),
	},
	{
		name: "agent-kills-what-was-replaced", pkg: "./failover", tests: "TestAgentMisses",
		edits: in("failover/agent.go", "case state.unsettled() && a.leftOut(one):", "case false:"),
	},
	{
		name: "agent-starts-in-the-ordered-role", pkg: "./failover", tests: "TestAgentReportsACrash",
		edits: in("failover/agent.go", "role == BootReplica {\n\t\treturn role, nil, \"\"", "role == BootReplica {\n\t\treturn BootReplica, nil, \"\""),
	},
	{
		name: "possible-ackers-are-not-rebuilt", pkg: "./failover", tests: "TestWhoIsRebuilt",
		edits: in("failover/rebuild.go", "node != s.Record.Primary && !possible && ", "node != s.Record.Primary && (possible || !possible) && "),
	},
	{
		name: "one-rebuild-at-a-time", pkg: "./failover", tests: "TestWhoIsRebuilt",
		edits: in("failover/rebuild.go", "return s.rebuildEnds(node, &one)", "_, _ = node, one"),
	},
	{
		name: "rebuilds-rest", pkg: "./failover", tests: "TestWhoIsRebuilt",
		edits: in("failover/rebuild.go", "; again && s.Now.Before(last.restedAt())", "; again && false"),
	},
	{
		name: "no-rebuild-while-suspended", pkg: "./failover", tests: "TestWhoIsRebuilt",
		edits: in("failover/rebuild.go", "if s.Record.Suspended != \"\" {", "if false {"),
	},
	{
		name: "nobody-copies-what-is-less", pkg: "./failover", tests: "TestWhoIsRebuilt",
		edits: in("failover/rebuild.go", "host.StartID == s.Seen[donor].StartID && !less", "host.StartID == s.Seen[donor].StartID && (less || !less)"),
	},
	{
		name: "a-waiting-primary-is-no-donor", pkg: "./failover", tests: "TestWhoIsRebuilt",
		edits: in("failover/rebuild.go", "; ready && s.answers(primary", "; (ready || !ready) && s.answers(primary"),
	},
	{
		name: "a-failover-ends-rebuilds", pkg: "./failover", tests: "TestRebuildEnds",
		edits: in("failover/change.go", "\tif a.begins() {\n\t\tr.interrupt(s.Now)\n\t}\n", ""),
	},
	{
		name: "who-is-rebuilt-stays-out", pkg: "./failover", tests: "TestOrderedRebuild",
		edits: in("failover/heal.go", " || s.apart(node):", ":"),
	},
	{
		name: "the-last-in-sync-is-not-put-out", pkg: "./failover", tests: "TestOrderedRebuild",
		edits: in("failover/rebuild.go", "&& !busy && s.donor(node) != \"\"", "&& !busy"),
	},
	{
		name: "copies-want-the-token", pkg: "./failover", tests: "TestCopiesAreForTheOrdered",
		edits: in("failover/agent_backup.go", "return want != \"\" && ", "return want != \"\" || "),
	},
	{
		name: "copies-want-the-donor", pkg: "./failover", tests: "TestCopiesAreForTheOrdered",
		edits: in("failover/agent_backup.go", "one.Donor != a.cfg.Node || ", ""),
	},
	{
		name: "lost-data-are-not-made-anew", pkg: "./failover", tests: "TestLostDataAreNotMadeAnew",
		edits: in("failover/agent.go", "if _, err := os.Stat(a.mark(servedFile)); err == nil {\n\t\treturn nil // an", "if false {\n\t\treturn nil // an"),
	},
	{
		name: "the-first-old-data-are-kept", pkg: "./failover", tests: "TestSwap",
		edits: in("failover/agent_rebuild.go", "if a.hasOld() && !a.oldIsReplaced() {", "if false {"),
	},

	// The change feed.
	{
		name: "feed-releases-what-is-acknowledged", pkg: "./feed", tests: "TestNothingReleasedVanishes",
		edits: in("feed/window.go", "if w.safe.covers(w.groups[i-1].GTID) {", "if true {"),
	},
	{
		name: "feed-does-not-acknowledge", pkg: "./feed", tests: "TestNothingReleasedVanishes",
		edits: in("feed/stream.go", "SemiSyncEnabled:  false,", "SemiSyncEnabled:  true,"),
	},
	{
		name: "feed-epoch", pkg: "./feed", tests: "TestStaleEpoch",
		edits: in("feed/marker.go", "WHERE id=1 AND epoch=?", "WHERE id=1 AND 0<?"),
	},
	{
		name: "feed-complete-is-handed-over", pkg: "./feed", tests: "TestWindow$",
		edits: in("feed/window.go", "w.unread != (proof{}) && w.read[w.unread.gtid.Domain].covers(w.unread.gtid)", "w.unread != (proof{})"),
	},
	{
		name: "feed-complete-from-the-beginning-of-the-marker", pkg: "./feed", tests: "TestComplete",
		edits: in("feed/marker.go", "\treturn made, err\n", "\tmade.begunAt = m.now()\n\treturn made, err\n"),
	},
	{
		name: "feed-settings", pkg: "./feed", tests: "TestSettings",
		edits: in("feed/marker.go", `if got != "1 ROW FULL FULL" {`, "if false {"),
	},
	{
		name: "feed-rows-have-names", pkg: "./feed", tests: "TestUnreadableChanges",
		edits: in("feed/assemble.go", "if len(columns) != int(e.Table.ColumnCount) {", "if false {"),
	},
	{
		name: "feed-statements-hide-rows", pkg: "./feed", tests: "TestUnreadableChanges",
		edits: in("feed/assemble.go", "if a.touches(schema, text) && hidesRows(words) {", "if false {"),
	},
	{
		name: "feed-binary-values-keep-their-zeros", pkg: "./feed", tests: "TestChanges$",
		edits: in("feed/assemble.go", "\tfill(e)\n", ""),
	},
	{
		name: "feed-vanished-is-not-purged", pkg: "./feed", tests: "TestVanishedHistory",
		edits: in("feed/stream.go", `return fmt.Errorf("%w: %w", errVanished, err)`, `return fmt.Errorf("%w: %w", errPurged, err)`),
	},
	{
		name: "feed-window-has-a-bound", pkg: "./feed", tests: "TestMemoryIsBounded",
		edits: in("feed/reader.go", "if r.window.full() {\n\t\t\tevents = nil", "if false {\n\t\t\tevents = nil"),
	},
	{
		name: "feed-starts-anew-where-it-can-see", pkg: "./feed", tests: "TestNothingIsLostBesideAReset",
		edits: in("feed/reader.go", "\t\tfrom = here\n", "\t\tfrom, _, _ = r.here(ctx)\n"),
	},
	{
		name: "feed-changes-by-hand", pkg: "./feed", tests: "TestChangesByHand",
		edits: in("feed/assemble.go", "is <= was", "is < was"),
	},

	// Events, webhooks, the auditor.
	{
		name: "numbers-only-after-the-lock", pkg: "./ledger", tests: "TestEventsAreComplete/mariadb",
		edits: in("ledger/outbox.go", "		if _, err := tx.ExecContext(ctx, lockHeadSQL); err != nil {\n			return err\n		}\n		if err := tx.QueryRowContext(ctx, readHeadSQL)", "		if err := tx.QueryRowContext(ctx, readHeadSQL)"),
	},
	{
		name: "a-position-is-a-number-and-no-id", pkg: "./ledger", tests: "TestLateCommitIsNotSkipped",
		edits: in("ledger/outbox.go", "WHEN %d THEN %d\", id, *last+1)", "WHEN %d THEN %d\", id, id)"),
	},
	{
		name: "epoch-of-numbers", edits: in("shard/transact.go", "if fence != epoch {", "if false {"),
		pkg: "./ledger", tests: "TestNumbersAreFenced",
	},
	{
		name: "batches-write-their-outbox", edits: in("ledger/write.go", "\tb.writeOutbox(p)\n", ""),
		pkg: "./ledger", tests: "TestEventsOfABatch",
	},
	{
		name: "trimmed-events-are-not-passed-over", pkg: "./ledger", tests: "TestTrimEvents",
		edits: in("ledger/outbox.go", "if after > 0 && after < trimmed {", "if false {"),
	},
	{
		name: "lease-of-senders", pkg: "./events", tests: "TestSenderDies",
		edits: in("events/delivery.go", "WHERE webhook_id=? AND (holder=? OR held_until<?)", "WHERE webhook_id=? AND (holder=? OR held_until<? OR 1=1)"),
	},
	{
		name: "outcome-of-a-sender-who-lost-the-lease", pkg: "./events", tests: "TestPausedSenderMovesNothing",
		edits: in("events/delivery.go", "WHERE webhook_id=? AND holder=? AND position=? AND parked_at=0", "WHERE webhook_id=? AND (holder=? OR 1=1) AND (position=? OR 1=1)"),
	},
	{
		name: "a-replay-takes-the-lease", pkg: "./events", tests: "TestReplay",
		edits: in("events/delivery.go", "last_error='', holder='', held_until=0 WHERE", "last_error='' WHERE"),
	},
	{
		name: "timestamp-is-signed", pkg: "./events", tests: "TestSenderDies",
		edits: in("events/signature.go", `id+"."+timestamp+"."`, `id+"."+"."`),
	},
	{
		name: "auditor-held", edits: in("ledger/audit.go", "same(a, checkHeld, text, \"held\", held[text], l.Held)", "_ = l"),
		pkg: "./ledger", tests: "TestAuditor/sqlite",
	},
	{
		name: "auditor-history-of-lots", pkg: "./ledger", tests: "TestAuditor/sqlite",
		edits: in("ledger/audit.go", "same(a, checkHistory, text, \"counters with available and held as one:\", free(last), free(*l.counters()))", "_ = last"),
	},
	{
		name: "auditor-due-at", pkg: "./ledger", tests: "TestAuditor/sqlite",
		edits: in("ledger/audit.go", "(first == 0) != (due == 0) || due > first", "(first == 0) != (due == 0)"),
	},
	{
		name: "auditor-knows-of-parts", pkg: "./ledger", tests: "TestGrownHolds/sqlite",
		edits: in("ledger/audit.go", "share.Amount - a.body[i].confirmedOf(item, n)", "share.Amount - 0*a.body[i].confirmedOf(item, n)"),
	},
	{
		name: "auditor-rest-of-parts", pkg: "./ledger", tests: "TestGrownHolds/sqlite",
		edits: in("ledger/audit.go", "\t\tif a.inPart[e.HoldID] {\n\t\t\twant = Confirmed // whatever became of the rest\n\t\t}\n", ""),
	},
	{
		name: "auditor-units", pkg: "./ledger", tests: "TestAuditorOfShards/sqlite",
		edits: in("ledger/audit.go", "same(a, checkUnits, text, \"of \"+take.quota, take.amount, row.Amount)", "_ = take.amount"),
	},
	{
		name: "auditor-claims", pkg: "./ledger", tests: "TestAuditorOfShards/sqlite",
		edits: in("ledger/audit.go", "if u.Used < c.least || u.Used > c.most {", "if false {"),
	},
	{
		name: "auditor-totals", pkg: "./ledger", tests: "TestAuditorOfShards/sqlite",
		edits: in("ledger/audit_units.go", "a.same(checkQuota, \"\", \"total\", home.Free+granted, home.Total)", "_ = granted"),
	},
	{
		name: "auditor-slices-and-homes", pkg: "./ledger", tests: "TestAuditorOfShards/sqlite",
		edits: in("ledger/audit_units.go", "s.Granted+there+here, g.Granted)", "s.Granted+there+here, s.Granted+there+here)"),
	},
	{
		name: "auditor-counts-what-is-on-its-way", pkg: "./ledger", tests: "TestAuditorOfShards/sqlite",
		edits: in("ledger/audit_units.go", "\t\treturn newest.Amount\n", "\t\treturn 0\n"),
	},
	{
		name: "auditor-held-units", pkg: "./ledger", tests: "TestAuditorOfShards/sqlite",
		edits: in("ledger/audit_units.go", "a.same(checkSlice, text, \"held\", s.Holding, s.Held)", "_ = s.Holding"),
	},
	{
		name: "auditor-sold-too-much", pkg: "./ledger", tests: "TestAuditorOfShards/sqlite",
		edits: in("ledger/audit_units.go", "owners < before || owners > after", "owners > after"),
	},
	{
		name: "auditor-sold-too-little", pkg: "./ledger", tests: "TestAuditorOfShards/sqlite",
		edits: in("ledger/audit_units.go", "owners < before || owners > after", "owners < before"),
	},
	{
		name: "auditor-packets", pkg: "./ledger", tests: "TestAuditorOfShards/sqlite",
		edits: in("ledger/audit_packet.go", "a.same(checkPacket, \"grabbed\", grabbed, a.packet.Grabbed)", "_ = grabbed"),
	},
	{
		name: "auditor-shares-arrive", pkg: "./ledger", tests: "TestAuditorOfShards/sqlite",
		edits: in("ledger/audit_packet.go", "\tl.checkShares(ctx, a)\n", ""),
	},
	{
		name: "auditor-marks", pkg: "./ledger", tests: "TestAuditorOfShards/sqlite",
		edits: in("ledger/audit_packet.go", "case mark.Ver > after.Ver:", "case false:"),
	},
	{
		name: "auditor-late", pkg: "./ledger", tests: "TestAuditorOfShards/sqlite",
		edits: in("ledger/audit_packet.go", "now.Add(-auditLate).UnixMicro()", "now.AddDate(-100, 0, 0).UnixMicro()"),
	},
	{
		name: "names-of-shares", pkg: "./ledger", tests: "TestPackets/sqlite/NamesOfShares",
		edits: in("ledger/audit_packet.go", "\"#\" + strconv.FormatInt(number, 10)", "\"/\" + strconv.FormatInt(number, 10)"),
	},
	{
		name: "scopes-of-a-bulk", pkg: "./api", tests: "TestBulkScopes",
		edits: in("api/bulk.go", "case !one.key.Scopes.Has(one.route.scope):", "case false:"),
	},
	{
		name: "export-ends-before-to", pkg: "./ledger", tests: "TestC48",
		edits: in("ledger/export.go", "!to.IsZero() && !at.Before(to)", "!to.IsZero() && at.After(to)"),
	},
	{
		name: "campaigns-start", pkg: "./ledger", tests: "TestAdmit",
		edits: in("ledger/campaign.go", "case now.Before(r.StartsAt):", "case false:"),
	},
	{
		name: "campaigns-end", pkg: "./ledger", tests: "TestAdmit",
		edits: in("ledger/campaign.go", "case !now.Before(r.EndsAt):", "case now.After(r.EndsAt):"),
	},
	{
		name: "ended-campaigns-stay-ended", pkg: "./ledger", tests: "TestCampaignEvents",
		edits: in("ledger/campaign.go", "if s.state == CampaignEnded {\n\t\treturn s, false", "if false {\n\t\treturn s, false"),
	},
	{
		name: "limits-of-owners", pkg: "./ledger", tests: "TestAdmit",
		edits: in("ledger/campaign.go", "u.used >= r.OwnerLimit:", "u.used > r.OwnerLimit:"),
	},
	{
		name: "days-are-the-campaigns", pkg: "./ledger", tests: "TestStartOf",
		edits: in("ledger/campaign_days.go", "if dayOf(at, zone) >= wanted {", "if dayOf(at, time.UTC) >= wanted {"),
	},
	{
		name: "claims-are-counted", pkg: "./ledger", tests: "TestCampaigns/sqlite",
		edits: in("ledger/campaign_apply.go", "\tu.used++\n", "\tu.used = 1\n"),
	},
	{
		name: "marks-never-go-back", pkg: "./ledger", tests: "TestMarks",
		edits: in("ledger/campaign_apply.go", "if m.ver >= op.ver {", "if m.ver == op.ver {"),
	},
	{
		name: "frozen-coupons-are-not-held", pkg: "./ledger", tests: "TestCampaigns/sqlite/Freeze",
		edits: in("ledger/apply_hold.go", "case c.frozen:", "case false:"),
	},
	{
		name: "a-pause-is-told", pkg: "./ledger", tests: "TestCampaigns/sqlite/Pause",
		edits: in("ledger/campaign_desk.go", "for _, number := range l.cfg.Store.Shards() {\n\t\tif err := l.tell",
			"for _, number := range l.cfg.Store.Shards()[:1] {\n\t\tif err := l.tell"),
	},
	{
		name: "a-code-has-one-winner", pkg: "./ledger", tests: "TestCodes/sqlite/OneWinner",
		edits: in("ledger/code_apply.go", "c.kind == SharedCode || c.state != codeFree {", "c.kind == SharedCode || c.state == codeReserved {"),
	},
	{
		name: "a-refused-owner-frees-the-code", pkg: "./ledger", tests: "TestCodes/sqlite/RefusedOwner",
		edits: in("ledger/code_desk.go", "attempt: code.attempt, redeemed: err == nil}", "attempt: code.attempt, redeemed: true}"),
	},
	{
		name: "late-closes-change-nothing", pkg: "./ledger", tests: "TestLateClose",
		edits: in("ledger/code_apply.go", "c.state != codeReserved || c.attempt != op.attempt {", "c.state != codeReserved {"),
	},
	{
		name: "codes-left-half-way-are-finished", pkg: "./ledger", tests: "TestCodes/sqlite",
		edits: in("ledger/code_desk.go", "if _, failed := l.decideCode(ctx, Caller{Key: one.OpKey}, code);", "if failed := error(nil);"),
	},
	{
		name: "guesses-are-counted", pkg: "./ledger", tests: "TestCodes/sqlite/Guessing",
		edits: in("ledger/guess.go", "w.wrong >= one.most &&", "false &&"),
	},
	{
		name: "look-alikes-are-refused", pkg: "./ledger", tests: "TestReadCode",
		edits: in("ledger/code.go", "unicode.Is(unicode.Dash, char)", "unicode.Is(unicode.Dash, char) || char > unicode.MaxASCII"),
	},
	{
		name: "codes-are-required", pkg: "./ledger", tests: "TestCodes/sqlite/Required",
		edits: in("ledger/campaign.go", "case r.CodeRequired && !byCode:", "case false:"),
	},
	{
		name: "references-of-codes-are-reserved", pkg: "./ledger", tests: "TestCodes/sqlite/Required",
		edits: in("ledger/code_desk.go", "case strings.HasPrefix(ref, codePrefix):", "case false:"),
	},
	{
		name: "issues-meet-limits", pkg: "./ledger", tests: "TestCampaigns/sqlite/C39",
		edits: in("ledger/apply_issue.go", "case m == nil && op.rules == nil:", "case op.rules == nil:"),
	},
	{
		name: "issues-take-from-the-budget", pkg: "./ledger", tests: "TestCampaigns/sqlite/C39",
		edits: in("ledger/apply_issue.go", "return op.checkNeeds(s, func(string) string { return \"\" })",
			"op.needs = nil\n\treturn op.checkNeeds(s, func(string) string { return \"\" })"),
	},
	{
		name: "frozen-owners-claim-nothing", pkg: "./ledger", tests: "TestCampaigns/sqlite/FrozenOwner",
		edits: in("ledger/campaign_apply.go", "refused == nil && o.frozen {", "false {"),
	},
	{
		name: "frozen-owners-grab-nothing", pkg: "./ledger", tests: "TestCampaigns/sqlite/FrozenOwner",
		edits: in("ledger/packet_apply.go", "if op.frozen {", "if false {"),
	},
	{
		name: "one-share-per-owner", pkg: "./ledger", tests: "TestPackets/sqlite/Lifecycle",
		edits: in("ledger/packet_apply.go", "if share := s.winners[winnerRef{p.id, op.Owner}]; share != nil {",
			"if share := s.winners[winnerRef{p.id, op.Owner}]; share != nil && false {"),
	},
	{
		name: "shares-land-once", pkg: "./ledger", tests: "TestPackets/sqlite/CutAtEachStep",
		edits: in("ledger/packet_apply.go", "if s.credits[creditRef{o.name, ref}] != nil {", "if false {"),
	},
	{
		name: "packets-return-once", pkg: "./ledger", tests: "TestPackets/sqlite/Returns",
		edits: in("ledger/packet_apply.go", "p.state != packetOpen || s.now < p.expiresAt", "s.now < p.expiresAt"),
	},
	{
		name: "packets-return-in-time", pkg: "./ledger", tests: "TestPackets/sqlite/Returns",
		edits: in("ledger/packet_apply.go", "if p.state == packetReturned || s.now >= p.expiresAt {", "if false {"),
	},
	{
		name: "money-outlives-its-packet", pkg: "./ledger", tests: "TestPackets/sqlite/Funding",
		edits: in("ledger/packet_apply.go", "l.expiresAt <= after || ", ""),
	},
	{
		name: "shares-leave-something-for-others", pkg: "./ledger", tests: "TestSplits",
		edits: in("ledger/packet.go", "most := min(rest-others, max(2*(rest/(others+1))-1, 1))", "most := max(2*(rest/(others+1))+1, 1)"),
	},
	{
		name: "empty-packets-know-their-winners", pkg: "./ledger", tests: "TestPackets/sqlite/Empty",
		edits: in("ledger/packet_desk.go", "return winners != nil && !winners[owner]", "return winners != nil"),
	},

	// State data, and the copies that they are read from. The numbers are those of the table in docs/cache.md.
	{
		name: "documents-have-preconditions", pkg: "./state", tests: "TestLifeOfADocument",
		edits: in("state/apply.go", "if !c.when.holds(&old) {", "if false {"),
	},
	{
		name: "what-was-written-is-what-was-recorded", pkg: "./state", tests: "TestLifeOfADocument",
		edits: in("state/documents.go", "if !reply.Replayed && c.wrote.Version == version {", "if true {"),
	},
	{
		name: "patches-are-judged", pkg: "./state", tests: "TestKinds",
		edits: in("state/apply.go", "return merged, c.kind.check(merged)", "return merged, nil"),
	},
	{
		name: "race-1-put-ends-leases", pkg: "./cache", tests: "TestRace01",
		edits: in("cache/scripts/put.lua",
			"  redis.call('HSET', KEYS[1], 'fe', e, 'fn', n)\n  redis.call('HDEL', KEYS[1], 't', 'x')\n", ""),
	},
	{
		name: "race-2-puts-are-newer", pkg: "./cache", tests: "TestRace02|TestRace16",
		edits: in("cache/scripts/put.lua", "if newer(h[1], h[2]) then", "if true then"),
	},
	{
		name: "race-3-stamps-grow-old", pkg: "./cache", tests: "TestRace03",
		edits: []edit{
			{"cache/scripts/get.lua", " and age <= tonumber(ARGV[5])", ""},
			{"cache/scripts/get.lua", ">= left then code = 'refresh' end", ">= left then code = 'hit' end"},
		},
	},
	{
		name: "race-3-memory-grows-old", pkg: "./cache", tests: "TestRace03",
		edits: in("cache/read.go", "return age <= Bound && e.seen", "return e.seen"),
	},
	{
		name: "race-4-intents-are-heeded", pkg: "./cache", tests: "TestRace04",
		edits: in("cache/scripts/get.lua", "    if now < tonumber(expiry) then return {'bypass'} end\n", ""),
	},
	{
		name: "race-4-tokens-are-kept", pkg: "./cache", tests: "TestRace04",
		edits: in("cache/scripts/get.lua", "hit = not below(e, n, tonumber(ARGV[3]), tonumber(ARGV[4]))", "hit = true"),
	},
	{
		name: "race-6-fills-need-their-lease", pkg: "./cache", tests: "TestRace06",
		edits: in("cache/scripts/fill.lua",
			"if h[1] ~= ARGV[1] or now >= tonumber(h[2]) then return 'token' end", "h[2] = h[2] or now + ARGV[10]"),
	},
	{
		name: "race-7-negative-entries-are-put", pkg: "./cache", tests: "TestRace07",
		edits: in("cache/scripts/put.lua", "if h[5] and ARGV[5] == '1' then", "if h[5] and h[5] ~= '' and ARGV[5] == '1' then"),
	},
	{
		name: "race-8-numbers-begin-at-the-time", pkg: "./cache", tests: "TestRace08",
		edits: in("state/apply.go", "return max(now.UnixMilli(), 1)", "_ = now\n\t\treturn 1"),
	},
	{
		name: "race-9-flights-end-with-a-write", pkg: "./cache", tests: "TestRace09",
		edits: in("cache/cache.go", "b = strconv.AppendUint(b, c.l1.moved(k), 36)", "_ = k"),
	},
	{
		name: "race-9-flights-are-of-one-token", pkg: "./cache", tests: "TestRace09",
		edits: in("cache/cache.go", "return string(append(b, ask.Version.String()...))", "return string(b)"),
	},
	{
		name: "race-10-leases-end", pkg: "./cache", tests: "TestRace10",
		edits: in("cache/scripts/fill.lua", " or now >= tonumber(h[2])", ""),
	},
	{
		name: "race-11-stamps-are-of-one-server", pkg: "./cache", tests: "TestRace11",
		edits: in("cache/scripts/get.lua", "local own = h[9] == run", "local own = true"),
	},
	{
		name: "race-11-beats-are-of-one-server", pkg: "./cache", tests: "TestRace11",
		edits: []edit{
			{"cache/feed.go", "if h == nil || epoch == 0 || h.run != run {", "if h == nil || epoch == 0 {"},
			{"cache/feed.go", "!found || v.run != run || v.epoch != epoch", "!found || v.epoch != epoch"},
		},
	},
	{
		name: "race-12-beats-grow-old", pkg: "./cache", tests: "TestRace12",
		edits: in("cache/feed.go", "return v.instant, now.Sub(v.instant) <= trusted", "return v.instant, true"),
	},
	{
		name: "race-13-entries-are-of-the-era", pkg: "./cache", tests: "TestRace13",
		edits: in("cache/scripts/get.lua", "hit = e >= tonumber(ARGV[2]) and (", "hit = ("),
	},
	{
		name: "race-13-memory-is-of-the-era", pkg: "./cache", tests: "TestRace13",
		edits: in("cache/read.go", " && e.seen.Era >= c.cfg.Locate(e.document.Key.Bucket()).Era", ""),
	},
	{
		name: "race-15-intents-are-taken-back", pkg: "./cache", tests: "TestRace15",
		edits: in("cache/write.go", "case wid != \"\" && !errors.Is(err, shard.ErrOutcomeUnknown):", "case errors.Is(err, shard.ErrOutcomeUnknown):"),
	},
	{
		name: "race-16-memory-keeps-the-newest", pkg: "./cache", tests: "TestL1KeepsTheNewest",
		edits: in("cache/l1.go", "case old.seen.Compare(v) >= 0 &&", "case false &&"),
	},
	{
		name: "race-3-bounded-reads-ask-for-the-age", pkg: "./bench", tests: "TestCacheUnderFaults",
		edits: in("cache/read.go", "return age <= Bound && e.seen.Era", "return e.seen.Era"),
	},
	{
		name: "follower-rows-by-hand-are-forgotten", pkg: "./cache", tests: "TestRace18",
		edits: in("cache/follower.go", "if c.Unversioned {", "if false {"),
	},
	{
		name: "follower-renamed-rows-are-forgotten", pkg: "./cache", tests: "TestRace18",
		edits: in("cache/follower.go", "c.Before.Exists() && before.Key != after.Key", "false"),
	},
	{
		name: "follower-old-eras-are-forgotten", pkg: "./cache", tests: "TestChangeByHandInAnOldEra",
		edits: in("cache/scripts/put.lua", "n > tonumber(h[2]) then -- numbers", "false then -- numbers"),
	},
	{
		name: "follower-old-eras-leave-memory", pkg: "./cache", tests: "TestChangeByHandInAnOldEra",
		edits: in("cache/l1.go", "old.seen.Compare(v) >= 0 && old.seen.Number >= v.Number:", "old.seen.Compare(v) >= 0:"),
	},
	{
		name: "follower-starts-anew-empty", pkg: "./cache", tests: "TestFollowerStartsAnew",
		edits: in("cache/follower.go", "	err := f.forgetAll(ctx)\n", "	var err error\n"),
	},
	{
		name: "race-17-stamps-are-of-redis", pkg: "./cache", tests: "TestRace17",
		edits: in("cache/clock.go", "return s.redis + at.Sub(s.heardAt).Milliseconds() - 1", "return at.UnixMilli()"),
	},
	{
		name: "stamps-are-not-of-the-future", pkg: "./cache", tests: "TestRedisClockSetBack",
		edits: in("cache/scripts/get.lua", "own and age >= 0 and", "own and"),
	},
	{
		name: "cold-keys-are-read-once", pkg: "./cache", tests: "TestColdKey",
		edits: in("cache/scripts/get.lua", "elseif leased then", "elseif false then"),
	},
	{
		name: "deaf-instances-trust-no-memory", pkg: "./cache", tests: "TestDeafInstance",
		edits: in("cache/read.go", "age <= eventualAge && c.hearing.covers(e.freshAt, c.cfg.Now())", "age <= eventualAge"),
	},
	{
		name: "a-pool-is-of-one-server", pkg: "./cache", tests: "TestPoolIsOfOneServer",
		edits: in("cache/redis.go", "&& *p.run.Load() != run {", "&& *p.run.Load() == \"\" {"),
	},
	{
		name: "sentinels-are-counted", pkg: "./cache", tests: "TestMostNamed",
		edits: in("cache/server.go", "votes[a] > votes[most] || ", ""),
	},
	{
		name: "sentinels-are-followed", pkg: "./cache", tests: "TestTroubles",
		edits: in("cache/remote.go", "err == nil && address != p.address {", "err == nil && p.address == \"\" {"),
	},
	{
		name: "clock-set-back-is-noticed", pkg: "./cache", tests: "TestClockSetBack",
		edits: in("cache/clock.go", "if next.redis < least {", "if false {"),
	},

	// Peeks, which decide as scripts/get.lua does.
	{
		name: "peek-floors-are-heeded", pkg: "./cache", tests: "TestPeekIsTheScript",
		edits: in("cache/peek.go", "!s.stored || s.seen.Compare(s.floor) < 0:", "!s.stored:"),
	},
	{
		name: "peek-race-4-intents-are-heeded", pkg: "./cache", tests: "TestRace04",
		edits: in("cache/peek.go", "case announced(s.writes, t.at):", "case false:"),
	},
	{
		name: "peek-race-4-tokens-are-kept", pkg: "./cache", tests: "TestRace04",
		edits: in("cache/peek.go", "return s.seen.Compare(by.ask.Version) >= 0, false", "return true, false"),
	},
	{
		name: "peek-race-3-stamps-grow-old", pkg: "./cache", tests: "TestRace03",
		edits: in("cache/peek.go", "return ok && left >= 0, float64(s.cost)*by.luck >= float64(left.Milliseconds())", "return ok, left > trusted"),
	},
	{
		name: "peek-renews-early", pkg: "./cache", tests: "TestPeekIsTheScript",
		edits: in("cache/peek.go", "float64(s.cost)*by.luck >= float64(left.Milliseconds())", "false"),
	},
	{
		name: "peek-race-11-stamps-are-of-one-server", pkg: "./cache", tests: "TestPeekIsTheScript",
		edits: in("cache/peek.go", "t.believed && s.run == t.run && age >= 0", "t.believed && age >= 0"),
	},
	{
		name: "peek-stamps-are-not-of-the-future", pkg: "./cache", tests: "TestRedisClockSetBack",
		edits: in("cache/peek.go", "t.believed && s.run == t.run && age >= 0", "t.believed && s.run == t.run"),
	},
	{
		name: "peek-clocks-set-back-are-not-believed", pkg: "./cache", tests: "TestPeekIsTheScript",
		edits: in("cache/peek.go", "t.believed && s.run == t.run && age >= 0", "s.run == t.run && age >= 0"),
	},
	{
		name: "peek-race-13-entries-are-of-the-era", pkg: "./cache", tests: "TestRace13|TestRace14",
		edits: in("cache/peek.go", "by.ask.Mode != Bounded || s.seen.Era < by.era:", "by.ask.Mode != Bounded:"),
	},
	{
		name: "race-14-reads-check-the-bucket", pkg: "./cache", tests: "TestRace14",
		edits: in("shard/store.go", "fence.Epoch != epoch || fence.Serving != len(buckets)", "fence.Epoch != epoch"),
	},
	{
		name: "race-14-memory-is-of-the-era", pkg: "./cache", tests: "TestRace14",
		edits: in("cache/read.go", " && e.seen.Era >= c.cfg.Locate(e.document.Key.Bucket()).Era", ""),
	},
	{
		name: "race-20-beats-are-of-what-is-proved", pkg: "./cache", tests: "TestRace20",
		edits: in("cache/follower.go", "b.at = read.stampAt(completeAt)", "b.at = read.redis"),
	},
	{
		name: "race-20-beats-are-of-one-epoch", pkg: "./cache", tests: "TestRace20",
		edits: in("cache/feed.go", "v.run != run || v.epoch != epoch", "v.run != run"),
	},
	{
		name: "what-is-outdated-is-not-remembered", pkg: "./cache", tests: "TestRememberedTooLate",
		edits: in("cache/l1.go", " || l.moved(e.document.Key) != e.moved", ""),
	},
	{
		name: "batches-share-a-round-trip", pkg: "./cache", tests: "TestBatchOfHits",
		edits: in("cache/peek.go", "	if c.remote.enqueue(peeks...) != nil {\n",
			"	for _, one := range peeks[1:] {\n		_ = c.remote.enqueue(one)\n	}\n	if c.remote.enqueue(peeks[0]) != nil {\n"),
	},
}
