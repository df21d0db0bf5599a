package instance_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/register"
)

// patience is how long a test waits for what takes milliseconds on an idle machine.
const patience = 60 * time.Second

// open makes a cluster and starts an instance of it.
func open(t *testing.T, reg register.Register, cfg instance.Config) *instance.Instance {
	t.Helper()
	cfg.Name, cfg.Register, cfg.Now, cfg.Log = "test", reg, time.Now, slog.New(slog.DiscardHandler)
	if err := instance.Bootstrap(t.Context(), reg, cfg.Shards, time.Now, func(string) {}); err != nil {
		t.Fatal(err)
	}
	in, err := instance.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := in.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return in
}

// eventually waits until what is so.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// conditions waits until the instance is ready or not, and each shard has an error with such a text, or none if it is empty.
func conditions(t *testing.T, in *instance.Instance, ready bool, texts ...string) error {
	t.Helper()
	var err error
	eventually(t, fmt.Sprintf("ready is %v, and the shards say %q", ready, texts), func() bool {
		began := time.Now()
		shards, missing := in.Ready(t.Context())
		if took := time.Since(began); took > 3*time.Second { // one, and what a busy machine adds
			t.Errorf("the answer took %s", took)
		}
		err = missing
		so := (missing == nil) == ready && len(shards) == len(texts)
		for i := 0; so && i < len(shards); i++ {
			so = (shards[i].Err == nil) == (texts[i] == "")
			if so && shards[i].Err != nil {
				so = strings.Contains(shards[i].Err.Error(), texts[i])
			}
		}
		return so
	})
	return err
}

// An instance is ready as long as one shard takes writes. It says how each of them is, in time, whatever befell them.
func TestReadyFollowsTheShards(t *testing.T) {
	t.Parallel()
	server := testdb.Start(t, mariadb.Options{})
	schema, folder := server.Schema(t), t.TempDir()
	files := filepath.Join(folder, "files")
	if err := os.Mkdir(files, 0o700); err != nil {
		t.Fatal(err)
	}
	in := open(t, openRegister(t, folder), instance.Config{
		Shards: append([]instance.Shard{{Name: "s1", DSN: server.DSN(schema)}}, sqlite(files, "s2")...),
	})
	_ = conditions(t, in, true, "", "")

	server.Exec(t, "SET GLOBAL read_only=1")
	_ = conditions(t, in, true, "read-only", "")
	server.Exec(t, "SET GLOBAL read_only=0")
	_ = conditions(t, in, true, "", "")

	server.Exec(t, "UPDATE "+schema+".fence SET epoch=2")
	_ = conditions(t, in, true, "epoch 2, the route at 1", "")
	server.Exec(t, "UPDATE "+schema+".fence SET epoch=1")
	_ = conditions(t, in, true, "", "")

	server.Pause(t)
	_ = conditions(t, in, true, "deadline", "")
	server.Resume(t)
	_ = conditions(t, in, true, "", "")

	server.Kill(t)
	_ = conditions(t, in, true, "connection refused", "")

	if err := os.Rename(files, files+"-away"); err != nil {
		t.Fatal(err)
	}
	err := conditions(t, in, false, "connection refused", "no such file")
	if text := fmt.Sprint(err); !strings.Contains(text, "shard 1") || !strings.Contains(text, "shard 2") {
		t.Errorf("not ready because of %q, which should name both shards", text)
	}
	server.Restart(t)
	_ = conditions(t, in, true, "", "no such file")
	if err := os.Rename(files+"-away", files); err != nil {
		t.Fatal(err)
	}
	_ = conditions(t, in, true, "", "")
}

// Who does not hear from the register any more does not know whom to refuse, and cannot mint ids for long.
func TestNotReadyWithoutTheRegister(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	in := open(t, openRegister(t, folder), instance.Config{Shards: sqlite(folder, "s1")})
	_ = conditions(t, in, true, "")
	path := filepath.Join(folder, "register")
	if err := os.Rename(path, path+"-away"); err != nil {
		t.Fatal(err)
	}
	if err := conditions(t, in, false, ""); !strings.Contains(err.Error(), "not compared with the register") {
		t.Errorf("not ready because of %v", err)
	}
	if err := os.Rename(path+"-away", path); err != nil {
		t.Fatal(err)
	}
	_ = conditions(t, in, true, "")
}
