package shard_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/shard"
)

// echo is a domain that stores one text per owner, to see it come back as it was.
type echo struct{}

type echoBatch struct {
	ops  []*shard.Op
	seen map[string]string
}

func (echo) NewBatch(ops []*shard.Op, _ bool) shard.Batch {
	return &echoBatch{ops: ops, seen: map[string]string{}}
}

func (b *echoBatch) Load(p *shard.Packet, round int) {
	if round > 0 {
		return
	}
	v := p.SelectForUpdate(shard.Lookup{
		Columns: "owner, doc", From: "texts", Index: "PRIMARY", Keys: "bucket, owner",
	}, func(r *shard.Row) error {
		b.seen[r.Str()] = r.Str()
		return nil
	})
	for _, op := range b.ops {
		v.Row().Bucket(op.Bucket).ASCII(op.Owner)
	}
}

func (b *echoBatch) Apply(i int, _ time.Time) shard.Reply {
	return shard.Reply{Verdict: shard.Done, Body: []byte(b.seen[b.ops[i].Owner])}
}

func (b *echoBatch) Write(p *shard.Packet) {
	for _, op := range b.ops {
		text := op.Body.(string)
		if _, stored := b.seen[op.Owner]; stored {
			p.Update("texts", "bucket, owner", "doc").Row().Bucket(op.Bucket).ASCII(op.Owner).Binary([]byte(text))
			continue
		}
		p.Insert("texts", "bucket, owner, doc").Row().Bucket(op.Bucket).ASCII(op.Owner).Binary([]byte(text))
	}
}

// Whatever text goes in comes back, whether a connection's collation can say it or not.
func TestTextsSurvive(t *testing.T) {
	texts := []string{"plain", "quote ' and \\ and \"", "红包 🧧 é", "tab\tnew\nline", "mixed 'é\\'"}
	engines := map[string]func(t *testing.T) *shard.DB{
		"mariadb": func(t *testing.T) *shard.DB { return openMariaDB(t, testdb.MariaDB(t)) },
		"sqlite": func(t *testing.T) *shard.DB {
			db, err := shard.OpenSQLite(filepath.Join(t.TempDir(), "shard.db"), time.Now)
			return prepare(t, db, err)
		},
	}
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			column := "owner VARCHAR(64) NOT NULL, doc BLOB NOT NULL"
			if db.Dialect == shard.MariaDB {
				column = "owner VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, " +
					"doc MEDIUMBLOB NOT NULL"
			}
			exec(t, db, "CREATE TABLE texts (bucket INTEGER NOT NULL, "+column+", PRIMARY KEY (bucket, owner))")
			c := shard.NewCommitter(shard.Config{DB: db, Machine: echo{}, Epoch: 1, Now: time.Now})
			defer c.Close(t.Context())
			before := ""
			for i, text := range append(texts, "end") {
				o := op("a", fmt.Sprint("k", i), 0)
				o.Body = text
				want(t, submit(t, c, o), shard.Done, before)
				before = text
			}
		})
	}
}
