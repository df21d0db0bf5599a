package bench

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// naive is the baseline: the same hold, with the same rows, as one transaction of five round trips on its own connection,
// the way most services write it. It is written as well as it can be: statements that need no answer share a packet, the
// rows are read by primary key, and nothing is prepared twice.
type naive struct {
	db    *sql.DB
	doc   string // of the hold; as long as the real one
	reply string
}

// hold runs one hold over one coupon and one lot. n makes its keys unique.
func (b *naive) hold(ctx context.Context, owner, coupon, lot, id string, n int64) error {
	bucket := int(shard.BucketOf(owner))
	conn, err := b.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	// 1: begin, fences, the owner's lock, the key
	_, err = conn.ExecContext(ctx, fmt.Sprintf(`BEGIN; SELECT epoch, floor_at, NOW(6) FROM fence WHERE id=1;
SELECT bucket FROM bucket_owner WHERE bucket=%d AND state='SERVING' LOCK IN SHARE MODE;
SELECT ver FROM owners WHERE bucket=%d AND owner='%s' FOR UPDATE;
SELECT verdict FROM operations WHERE bucket=%d AND owner='%s' AND op_key='n-%d'`, bucket, bucket, owner, bucket, owner, n))
	if err != nil {
		return b.abandon(conn, err)
	}
	// 2: the assets
	var state string
	var available, held int64
	row := conn.QueryRowContext(ctx, fmt.Sprintf(`SELECT c.state, l.available, l.held FROM coupons c JOIN lots l ON
l.bucket=c.bucket AND l.owner=c.owner AND l.lot_id=x'%s' WHERE c.bucket=%d AND c.owner='%s' AND c.coupon_id=x'%s'`,
		lot, bucket, owner, coupon))
	if err := row.Scan(&state, &available, &held); err != nil {
		return b.abandon(conn, err)
	}
	if state != "AVAILABLE" || available < 1 {
		return b.abandon(conn, fmt.Errorf("coupon %s of %s is %s, %d available", coupon, owner, state, available))
	}
	// 3: the changes
	now := time.Now().UnixMicro()
	until := now + int64(15*time.Minute/time.Microsecond)
	_, err = conn.ExecContext(ctx, fmt.Sprintf(`UPDATE coupons SET state='HELD', ver=ver+1, hold_id=x'%s', held_until=%d
WHERE bucket=%d AND owner='%s' AND coupon_id=x'%s';
UPDATE lots SET available=available-1, held=held+1, ver=ver+1 WHERE bucket=%d AND owner='%s' AND lot_id=x'%s';
UPDATE owners SET ver=ver+1, live_holds=live_holds+1, due_at=IF(due_at=0,%d,due_at) WHERE bucket=%d AND owner='%s'`,
		id, until, bucket, owner, coupon, bucket, owner, lot, until, bucket, owner))
	if err != nil {
		return b.abandon(conn, err)
	}
	// 4: the hold and its key
	_, err = conn.ExecContext(ctx, b.inserts("n", bucket, owner, id, n, now, until))
	if err != nil {
		return b.abandon(conn, err)
	}
	// 5: durable
	_, err = conn.ExecContext(ctx, "COMMIT")
	return err
}

// inserts makes the hold, its order and its key.
func (b *naive) inserts(prefix string, bucket int, owner, id string, n, now, until int64) string {
	order := fmt.Sprintf("%s-%d", prefix, n)
	return fmt.Sprintf(`INSERT INTO holds (bucket, hold_id, owner, order_id, attempt, created_at, expires_at)
VALUES (%[1]d, x'%[2]s', '%[3]s', '%[4]s', 1, %[5]d, %[6]d);
INSERT INTO orders (bucket, owner, order_id, attempt, hold_id, request_hash, doc)
VALUES (%[1]d, '%[3]s', '%[4]s', 1, x'%[2]s', x'%[2]s', '%[7]s');
INSERT INTO operations (bucket, owner, op_key, fingerprint, verdict, epoch, decided_at, order_id, attempt, quote_at, reply)
VALUES (%[1]d, '%[3]s', '%[4]s', x'%[2]s', 'DONE', 1, %[5]d, '%[4]s', 1, 200, '%[8]s')`,
		bucket, id, owner, order, now, until, b.doc, b.reply)
}

func (b *naive) abandon(conn *sql.Conn, err error) error {
	_, _ = conn.ExecContext(context.Background(), "ROLLBACK")
	return err
}

// twoTrips is the floor for a lone hold: the same writes in two round trips, BEGIN and the locking reads in one, the
// writes and COMMIT in the other.
func (b *naive) twoTrips(ctx context.Context, conn *sql.Conn, owner, coupon, lot, id string, n int64) error {
	bucket := int(shard.BucketOf(owner))
	var available int64
	row := conn.QueryRowContext(ctx, fmt.Sprintf(`BEGIN; SELECT l.available FROM owners o JOIN coupons c ON c.bucket=o.bucket AND
c.owner=o.owner AND c.coupon_id=x'%s' JOIN lots l ON l.bucket=o.bucket AND l.owner=o.owner AND l.lot_id=x'%s'
WHERE o.bucket=%d AND o.owner='%s' FOR UPDATE`, coupon, lot, bucket, owner))
	if err := row.Scan(&available); err != nil {
		return b.abandon(conn, err)
	}
	now := time.Now().UnixMicro()
	until := now + int64(15*time.Minute/time.Microsecond)
	_, err := conn.ExecContext(ctx, fmt.Sprintf(`UPDATE coupons SET state='HELD', ver=ver+1, hold_id=x'%s', held_until=%d
WHERE bucket=%d AND owner='%s' AND coupon_id=x'%s';
UPDATE lots SET available=available-1, held=held+1, ver=ver+1 WHERE bucket=%d AND owner='%s' AND lot_id=x'%s';
UPDATE owners SET ver=ver+1, live_holds=live_holds+1, due_at=IF(due_at=0,%d,due_at) WHERE bucket=%d AND owner='%s';
%s;
COMMIT`,
		id, until, bucket, owner, coupon, bucket, owner, lot, until, bucket, owner,
		b.inserts("t", bucket, owner, id, n, now, until)))
	if err != nil {
		return b.abandon(conn, err)
	}
	return nil
}

// plainUpdate is the hot-row baseline: the single statement that everybody writes first.
func (b *naive) plainUpdate(ctx context.Context, owner, lot string) error {
	_, err := b.db.ExecContext(ctx, fmt.Sprintf(`UPDATE lots SET available=available-1, held=held+1, ver=ver+1
WHERE bucket=%d AND owner='%s' AND lot_id=x'%s' AND available>=1`, int(shard.BucketOf(owner)), owner, lot))
	return err
}
