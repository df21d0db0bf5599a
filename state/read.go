package state

import (
	"context"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
)

// MaxRead is how many documents one Read takes: the statement and its reply stay small enough for one round trip.
const MaxRead = 256

// record is a row as gorm reads it.
type record struct {
	Bucket    shard.Bucket
	Kind      string
	ID        string
	Era       int64
	Ver       int64
	UpdatedAt int64
	Doc       []byte
}

func (r *record) document() Document {
	d := Document{
		Key: Key{r.Kind, r.ID}, Version: Version{r.Era, r.Ver}, UpdatedAt: time.UnixMicro(r.UpdatedAt).UTC(),
	}
	if len(r.Doc) > 0 {
		d.Body = r.Doc
	}
	return d
}

const (
	erasSQL = "SELECT b.bucket, b.era_base+CAST(f.epoch AS SIGNED) AS era FROM bucket_owner b JOIN fence f ON f.id=1 WHERE b.bucket IN ?"
	rowsSQL = "SELECT bucket, kind, id, era, ver, updated_at, doc FROM state WHERE "
	rowSQL  = "(bucket=? AND kind=? AND id=?)"
	// listSQL passes over rows that a move has left behind.
	listSQL = "SELECT s.bucket, s.kind, s.id, s.era, s.ver, s.updated_at, s.doc FROM state s " +
		"JOIN bucket_owner b ON b.bucket=s.bucket AND b.state='SERVING' " +
		"WHERE s.kind=? AND (s.bucket>? OR s.bucket=? AND s.id>?) AND s.deleted=0 ORDER BY s.bucket, s.id LIMIT ?"
)

// Read returns documents as their primary has them now, in the order of keys, which are at most MaxRead and all of one shard. Where the
// shard can fail over, it is certain that no newer primary had begun to serve when they were read.
func (d *Documents) Read(ctx context.Context, keys []Key) ([]Snapshot, error) {
	buckets := make([]shard.Bucket, len(keys))
	for i, k := range keys {
		buckets[i] = k.Bucket()
	}
	snapshots := make([]Snapshot, len(keys))
	err := d.cfg.Store.ReadTogether(ctx, buckets, func(tx *gorm.DB, _ time.Time) error {
		eras, err := readEras(tx, buckets)
		if err != nil {
			return err
		}
		found, err := readRows(tx, keys, buckets)
		if err != nil {
			return err
		}
		for i, k := range keys {
			document, ok := found[k]
			if !ok {
				document.Key = k
			}
			snapshots[i] = Snapshot{document, eras[buckets[i]]}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %d documents: %w", len(keys), err)
	}
	return snapshots, nil
}

func readEras(tx *gorm.DB, buckets []shard.Bucket) (map[shard.Bucket]int64, error) {
	var rows []struct {
		Bucket shard.Bucket
		Era    int64
	}
	if err := tx.Raw(erasSQL, buckets).Scan(&rows).Error; err != nil {
		return nil, err
	}
	eras := make(map[shard.Bucket]int64, len(rows))
	for _, r := range rows {
		eras[r.Bucket] = r.Era
	}
	return eras, nil
}

func readRows(tx *gorm.DB, keys []Key, buckets []shard.Bucket) (map[Key]Document, error) {
	args := make([]any, 0, 3*len(keys))
	for i, k := range keys {
		args = append(args, buckets[i], k.Kind, k.ID)
	}
	var records []record
	query := rowsSQL + rowSQL + strings.Repeat(" OR "+rowSQL, len(keys)-1)
	if err := tx.Raw(query, args...).Scan(&records).Error; err != nil {
		return nil, err
	}
	found := make(map[Key]Document, len(records))
	for i := range records {
		document := records[i].document()
		found[document.Key] = document
	}
	return found, nil
}

// Position is a place in the list of a kind, which is ordered by bucket and id. The zero Position is before its beginning.
type Position struct {
	Bucket shard.Bucket
	ID     string
}

// List returns the documents of a kind that exist on the shard of bucket at, after a position, at most limit of them.
func (d *Documents) List(ctx context.Context, at shard.Bucket, kind string, after Position, limit int) ([]Document, error) {
	var documents []Document
	err := d.cfg.Store.ReadTogether(ctx, []shard.Bucket{at}, func(tx *gorm.DB, _ time.Time) error {
		var records []record
		if err := tx.Raw(listSQL, kind, after.Bucket, after.Bucket, after.ID, limit).Scan(&records).Error; err != nil {
			return err
		}
		documents = make([]Document, len(records))
		for i := range records {
			documents[i] = records[i].document()
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the documents of kind %s: %w", kind, err)
	}
	return documents, nil
}
