package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// sums are what all shards of a cluster have, added up.
type sums struct {
	confirmed, cancelled, expired int64 // holds
	live                          int64 // holds that are not decided
	available, held, used         int64 // coupons
	issued, moneyHeld, spent      int64 // money

	// What must not be.
	crookedLots    int64 // lots whose parts are not their whole
	strayCoupons   int64 // used coupons without a confirmed hold
	brokenChains   int64 // owners whose entries have gaps
	unpaidConfirms int64 // owners whose confirmed holds and spent money differ
}

// The reads of sums, each with its columns. Every hold of a load holds the same money, which is the parameter.
const (
	sumHolds = `SELECT COALESCE(SUM(state='CONFIRMED'),0), COALESCE(SUM(state='CANCELLED'),0), COALESCE(SUM(state='EXPIRED'),0),
(SELECT COUNT(*) FROM holds) FROM decided_holds`
	sumCoupons = `SELECT COALESCE(SUM(state='AVAILABLE'),0), COALESCE(SUM(state='HELD'),0), COALESCE(SUM(state='USED'),0) FROM coupons`
	sumMoney   = `SELECT COALESCE(SUM(issued),0), COALESCE(SUM(held),0), COALESCE(SUM(spent),0) FROM lots`
	sumFaults  = `SELECT
(SELECT COUNT(*) FROM lots WHERE issued <> available + held + spent + expired + revoked),
(SELECT COUNT(*) FROM coupons c WHERE c.state='USED' AND NOT EXISTS
  (SELECT 1 FROM decided_holds d WHERE d.bucket=c.bucket AND d.hold_id=c.hold_id AND d.state='CONFIRMED')),
(SELECT COUNT(*) FROM owners o WHERE o.entry_seq <>
  (SELECT COUNT(*) FROM entries e WHERE e.bucket=o.bucket AND e.owner=o.owner)),
(SELECT COUNT(*) FROM owners o WHERE
  (SELECT COALESCE(SUM(l.spent),0) FROM lots l WHERE l.bucket=o.bucket AND l.owner=o.owner) <>
  ? * (SELECT COUNT(*) FROM decided_holds d WHERE d.bucket=o.bucket AND d.owner=o.owner AND d.state='CONFIRMED'))`
)

// sum reads the shards. No load may run meanwhile: the reads are not one transaction.
func (c *cluster) sum(ctx context.Context) (all sums, err error) {
	for _, s := range c.shards {
		db, err := s.Open(time.Now)
		if err != nil {
			return all, err
		}
		var one sums
		reads := []struct {
			query string
			args  []any
			into  []any
		}{
			{sumHolds, nil, []any{&one.confirmed, &one.cancelled, &one.expired, &one.live}},
			{sumCoupons, nil, []any{&one.available, &one.held, &one.used}},
			{sumMoney, nil, []any{&one.issued, &one.moneyHeld, &one.spent}},
			{sumFaults, []any{pairMoney}, []any{&one.crookedLots, &one.strayCoupons, &one.brokenChains, &one.unpaidConfirms}},
		}
		for _, read := range reads {
			err = errors.Join(err, db.SQL().QueryRowContext(ctx, read.query, read.args...).Scan(read.into...))
		}
		if err = errors.Join(err, db.Close()); err != nil {
			return all, fmt.Errorf("sum up shard %s: %w", s.Name, err)
		}
		all.add(one)
	}
	return all, nil
}

func (s *sums) add(o sums) {
	s.confirmed, s.cancelled, s.expired, s.live = s.confirmed+o.confirmed, s.cancelled+o.cancelled, s.expired+o.expired, s.live+o.live
	s.available, s.held, s.used = s.available+o.available, s.held+o.held, s.used+o.used
	s.issued, s.moneyHeld, s.spent = s.issued+o.issued, s.moneyHeld+o.moneyHeld, s.spent+o.spent
	s.crookedLots += o.crookedLots
	s.strayCoupons += o.strayCoupons
	s.brokenChains += o.brokenChains
	s.unpaidConfirms += o.unpaidConfirms
}

// expectation is a number of the database and what it must be.
type expectation struct {
	name      string
	got, want int64
}

var errViolation = errors.New("the database does not agree with what was acknowledged")

// check lists what is not as expected, together with the faults that no load may leave.
func (s *sums) check(expected ...expectation) error {
	expected = append(expected,
		expectation{"lots whose parts are not their whole", s.crookedLots, 0},
		expectation{"used coupons without a confirmed hold", s.strayCoupons, 0},
		expectation{"owners whose entries have gaps", s.brokenChains, 0},
		expectation{"owners whose confirmed holds and spent money differ", s.unpaidConfirms, 0},
	)
	var errs []error
	for _, e := range expected {
		if e.got != e.want {
			errs = append(errs, fmt.Errorf("%w: %s: %d, want %d", errViolation, e.name, e.got, e.want))
		}
	}
	return errors.Join(errs...)
}
