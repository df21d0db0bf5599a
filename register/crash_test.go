package register

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/statesvc/statesvc/internal/etcd"
)

// childEnv makes the test binary a process that writes to the register named in it, until it is killed.
const childEnv = "REGISTER_TEST_CHILD"

func TestMain(m *testing.M) {
	etcd.Main()
	if path := os.Getenv(childEnv); path != "" {
		writeForEver(path)
	}
	os.Exit(m.Run())
}

// writeForEver increments a counter and rewrites a second key in the same transaction, and prints what was acknowledged.
// It compacts every few transactions, so that a kill often hits a compaction.
func writeForEver(path string) {
	f, err := OpenFile(path)
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	f.compactMin = 2000
	for {
		entry, err := Update(context.Background(), f, "counter", func(old Entry) ([]byte, error) {
			n, _ := strconv.Atoi(string(old.Value))
			return strconv.AppendInt(nil, int64(n)+1, 10), nil
		})
		if err == nil {
			_, err = Put(context.Background(), f, "pad", bytes.Repeat(entry.Value, 20))
		}
		if err != nil {
			fmt.Println("write:", err)
			os.Exit(1)
		}
		fmt.Println(string(entry.Value))
	}
}

// TestKilledWriters kills two processes at random moments, again and again. What either had acknowledged must be there,
// the counter must not have lost an increment, and a handle that was open all the time must agree.
func TestKilledWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	open := openTest(t, path)
	acknowledged := 0
	var lastRev int64
	for round := 0; round < 12 || acknowledged == 0 && round < 200; round++ { // on a busy machine a child begins late
		a, b := startChild(t, path), startChild(t, path)
		time.Sleep(time.Duration(20+round*7) * time.Millisecond)
		acknowledged += a.kill(t)
		acknowledged += b.kill(t)

		fresh := openTest(t, path)
		entry, err := fresh.Get(t.Context(), "counter")
		if errors.Is(err, ErrNotFound) && acknowledged == 0 {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		// Each killed process may have written one more than it could say.
		if n, _ := strconv.Atoi(string(entry.Value)); n < acknowledged || n > acknowledged+2*(round+1) {
			t.Fatalf("round %d: counter %d, acknowledged %d", round, n, acknowledged)
		}
		if entry.Rev < lastRev {
			t.Fatalf("revision %d after %d", entry.Rev, lastRev)
		}
		lastRev = entry.Rev
		wantSame(t, open, fresh)
	}
	if acknowledged == 0 {
		t.Fatal("the children were killed before they did anything")
	}
}

type child struct {
	cmd *exec.Cmd
	out io.Reader
}

func startChild(t *testing.T, path string) child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return child{cmd, out}
}

// kill ends the process and returns how many increments it had seen acknowledged.
func (c child) kill(t *testing.T) int {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for lines := bufio.NewScanner(c.out); lines.Scan(); n++ {
		if strings.Contains(lines.Text(), ":") {
			t.Fatal("child: ", lines.Text())
		}
	}
	_ = c.cmd.Wait()
	return n
}

// TestStoppedLockHolder stops a process that holds the lock: calls end with their context, and go on once it continues.
func TestStoppedLockHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	f := openTest(t, path)
	holder, err := os.OpenFile(path+".lock", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	if err := syscall.Flock(int(holder.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := Put(ctx, f, "k", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("put while the lock is held: %v", err)
	}
	if _, err := f.Get(t.Context(), "k"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("a read needs no lock when nobody has written: %v", err)
	}
	unlock(holder)
	if _, err := Put(t.Context(), f, "k", nil); err != nil {
		t.Fatal(err)
	}
}

// TestClosedWhileWaiting closes a handle whose transaction waits for the lock without a deadline.
func TestClosedWhileWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	f, holder := openTest(t, path), openTest(t, path)
	if err := holder.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer unlock(holder.lockFile)
	ended := make(chan error)
	go func() {
		_, err := Put(context.Background(), f, "k", nil)
		ended <- err
	}()
	time.Sleep(5 * time.Millisecond)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Fatalf("waiting transaction: %v", err)
	}
	if _, err := f.Get(t.Context(), "k"); !errors.Is(err, ErrClosed) {
		t.Fatalf("get after close: %v", err)
	}
	if _, open := <-f.Watch(t.Context(), "", 0); open {
		t.Fatal("a watch of a closed register")
	}
	if err := f.Close(); err != nil {
		t.Fatalf("second close: %v", err)
	}
}

// TestEveryTornLength cuts the file at every byte of its last line: the transaction is there whole or not at all, and the
// register goes on from there with the next revision.
func TestEveryTornLength(t *testing.T) {
	text, lastLine := sampleFile(t)
	for size := lastLine; size < len(text); size++ {
		f := openText(t, text[:size])
		if info, err := os.Stat(f.path); err != nil || info.Size() != int64(lastLine) {
			t.Fatalf("cut at %d: the torn line is still there: %v", size, err)
		}
		wantContent(t, f, map[string]string{"a": "1", "b": "2"})
		if rev, err := Put(t.Context(), f, "d", nil); err != nil || rev != 3 {
			t.Fatalf("cut at %d: next revision %d: %v", size, rev, err)
		}
		wantSame(t, f, openTest(t, f.path))
	}
	wantContent(t, openText(t, text), map[string]string{"a": "1", "b": "2", "c": "3"})
}

// TestEveryDamagedByte flips each byte of the file in turn. Damage in the last line looks like a torn write; damage
// anywhere else must be refused, for what was acknowledged would be lost.
func TestEveryDamagedByte(t *testing.T) {
	text, lastLine := sampleFile(t)
	for i := range text {
		damaged := slices.Clone(text)
		damaged[i] ^= 0x15
		path := filepath.Join(t.TempDir(), "register")
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := OpenFile(path)
		if i < lastLine {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("byte %d (%q) damaged: %v", i, text[i], err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("byte %d of the last line damaged: %v", i, err)
		}
		wantContent(t, f, map[string]string{"a": "1", "b": "2"})
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRefusedFiles(t *testing.T) {
	tests := map[string]string{
		"empty":          "",
		"other text":     "hello\n",
		"other format":   line(t, header{Register: 2}),
		"short snapshot": line(t, header{Register: 1, Rev: 5, Entries: 1}),
		"gap":            line(t, header{Register: 1, Rev: 5}) + line(t, record{Rev: 7}) + line(t, record{Rev: 8}),
		"last is a gap":  line(t, header{Register: 1, Rev: 5}) + line(t, record{Rev: 7}),
		"repetition":     line(t, header{Register: 1, Rev: 5}) + line(t, record{Rev: 6}) + line(t, record{Rev: 6}),
	}
	for name, text := range tests {
		path := filepath.Join(t.TempDir(), "register")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenFile(path); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != text {
			t.Errorf("%s: a refused file was changed", name)
		}
	}
}

// TestTornSeenByReader shows half a line to a handle that is open: it must neither believe it nor stumble over it.
func TestTornSeenByReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	reader, writer := openTest(t, path), openTest(t, path)
	mustPut(t, writer, "a", "1")
	appendText(t, path, "deadbeef {\"rev\":2,\"op")
	wantContent(t, reader, map[string]string{"a": "1"})
	mustPut(t, writer, "b", "2")
	wantContent(t, reader, map[string]string{"a": "1", "b": "2"})
}

// TestDamageWhileOpen damages the file under an open handle: from then on it refuses everything.
func TestDamageWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	f := openTest(t, path)
	mustPut(t, f, "a", "1")
	appendText(t, path, "deadbeef {}\n"+line(t, record{Rev: 3}))
	for range 2 {
		if _, err := f.Get(t.Context(), "a"); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("get: %v", err)
		}
	}
	if _, err := Put(t.Context(), f, "b", nil); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("put: %v", err)
	}
}

// TestWentBack restores an old copy under open handles: revisions would be used twice, so it is refused.
func TestWentBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	f := openTest(t, path)
	mustPut(t, f, "a", "1")
	if err := f.exclusive(t.Context(), f.compact); err != nil {
		t.Fatal(err)
	}
	old, err := encodeSnapshot(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(path, old); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(t.Context(), "a"); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("get: %v", err)
	}
}

func TestFileRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	f := openTest(t, path)
	mustPut(t, f, "a", "1")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(t.Context(), "a"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("get: %v", err)
	}
	if _, err := Put(t.Context(), f, "a", nil); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("put: %v", err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	wantContent(t, f, map[string]string{"a": "1"})
}

// TestLeftOverTemporary leaves what a process killed while compacting leaves.
func TestLeftOverTemporary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	mustPut(t, openTest(t, path), "a", "1")
	if err := os.WriteFile(path+".tmp", []byte("half a snap"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := openTest(t, path)
	if err := f.exclusive(t.Context(), f.compact); err != nil {
		t.Fatal(err)
	}
	mustPut(t, f, "b", "2")
	wantContent(t, openTest(t, path), map[string]string{"a": "1", "b": "2"})
}

// TestCompactionLosesNoEvent lets one handle write and compact all the time while another watches.
func TestCompactionLosesNoEvent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	reader, writer := openTest(t, path), openTest(t, path)
	watch := reader.Watch(t.Context(), "", 0)
	next := int64(1)
	for range 30 {
		for range 3 {
			mustPut(t, writer, "k"+strconv.Itoa(int(next)%5), "v")
		}
		if err := writer.exclusive(t.Context(), writer.compact); err != nil {
			t.Fatal(err)
		}
		if _, _, err := reader.List(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			batch, open := <-watch
			if !open {
				t.Fatalf("the watch ended after revision %d", next-1)
			}
			for _, e := range batch {
				if e.Rev != next {
					t.Fatalf("revision %d, want %d", e.Rev, next)
				}
				next++
			}
			if next%3 == 1 {
				break
			}
		}
	}
}

// TestMissedGeneration compacts twice while a handle does not look: what happened in between is gone, so its watch ends.
func TestMissedGeneration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	reader, writer := openTest(t, path), openTest(t, path)
	watch := reader.Watch(t.Context(), "", 0)
	reader.busy <- struct{}{} // the reader is not scheduled
	for i := range 2 {
		mustPut(t, writer, "k"+strconv.Itoa(i), "v")
		if err := writer.exclusive(t.Context(), writer.compact); err != nil {
			t.Fatal(err)
		}
	}
	<-reader.busy
	stuck := time.AfterFunc(10*time.Second, func() { panic("the watch goes on over a gap") })
	defer stuck.Stop()
	seen := 0
	for batch := range watch {
		seen += len(batch)
	}
	if seen > 1 { // the first was in the file it had open, the second was not
		t.Fatalf("saw %d changes and then a gap", seen)
	}
	wantSame(t, reader, writer)
}

// TestSlowWatcher falls behind by more than the history holds and is told to list again, not fed a gap.
func TestSlowWatcher(t *testing.T) {
	h := history{}
	h.reset(10)
	for rev := int64(11); rev < 11+historyEventsMax; rev++ {
		h.add([]Event{{Entry: Entry{Key: "a", Rev: rev}}, {Entry: Entry{Key: "b", Rev: rev}}})
	}
	if _, lost := h.since("", 10); !lost {
		t.Fatal("changes are forgotten and nobody is told")
	}
	events, lost := h.since("b", h.from)
	if lost || len(events) != historyEventsMax/2 || events[0].Rev != h.from+1 {
		t.Fatalf("lost %v, %d events from %d", lost, len(events), h.from)
	}
	big := make([]byte, historyBytesMax/4)
	for range 8 {
		h.add([]Event{{Entry: Entry{Key: "big", Value: big, Rev: h.events[len(h.events)-1].Rev + 1}}})
	}
	if h.bytes > historyBytesMax || len(h.events) > 4 {
		t.Fatalf("%d bytes, %d events kept", h.bytes, len(h.events))
	}
}

// TestCompactsByItself rewrites one key until the log has outgrown the snapshot.
func TestCompactsByItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	f := openTest(t, path)
	f.compactMin = 4000
	for range 100 {
		mustPut(t, f, "k", strings.Repeat("v", 200))
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 6000 {
		t.Fatalf("the file has %d bytes for one small key", info.Size())
	}
	fresh := openTest(t, path)
	if fresh.rev != 100 {
		t.Fatalf("revision %d after 100 writes", fresh.rev)
	}
	wantSame(t, f, fresh)
}

func TestFull(t *testing.T) {
	f := openTest(t, filepath.Join(t.TempDir(), "register"))
	mustPut(t, f, "k", "v")
	f.content.bytes += maxBytes // as if the rest were there
	if _, err := Put(t.Context(), f, "more", nil); !errors.Is(err, ErrFull) {
		t.Fatalf("growing: %v", err)
	}
	mustPut(t, f, "k", "w")
	if _, err := f.Txn(t.Context(), Txn{Then: []Op{{Key: "k", Delete: true}}}); err != nil {
		t.Fatalf("shrinking: %v", err)
	}
}

// TestFailedAppend closes the file under the handle, so that neither writing nor undoing works: the handle gives up.
func TestFailedAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	f := openTest(t, path)
	mustPut(t, f, "a", "1")
	readOnly, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	old := f.log
	f.log = readOnly
	if _, err := Put(t.Context(), f, "b", nil); err == nil {
		t.Fatal("a write that cannot have happened succeeded")
	}
	if _, err := f.Get(t.Context(), "a"); err == nil {
		t.Fatal("a handle that does not know its file answers")
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	wantContent(t, openTest(t, path), map[string]string{"a": "1"})
}

// TestOtherProcessLatency measures how soon a watcher in another handle hears of a write. It asserts only that polling
// works at all under load; the number is in the log.
func TestOtherProcessLatency(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	reader, writer := openTest(t, path), openTest(t, path)
	watch := reader.Watch(t.Context(), "", 0)
	var delays []time.Duration
	for range 30 {
		mustPut(t, writer, "k", "v")
		written := time.Now()
		<-watch
		delays = append(delays, time.Since(written))
	}
	slices.Sort(delays)
	t.Logf("p50 %v, max %v", delays[len(delays)/2], delays[len(delays)-1])
	if delays[len(delays)/2] > 500*time.Millisecond {
		t.Error("the watcher does not poll")
	}
}

func FuzzParse(f *testing.F) {
	text, _ := sampleFile(f)
	f.Add(text)
	f.Add([]byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseSnapshot(data)
		if err != nil {
			return
		}
		tail, err := parseTail(data[s.size:], s.rev)
		if err == nil && !tail.torn && s.size+tail.size != int64(len(data)) {
			t.Fatalf("%d + %d of %d bytes", s.size, tail.size, len(data))
		}
	})
}

func BenchmarkGet(b *testing.B) {
	f := openTest(b, filepath.Join(b.TempDir(), "register"))
	if _, err := Put(b.Context(), f, "k", []byte("v")); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := f.Get(b.Context(), "k"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	f := openTest(b, filepath.Join(b.TempDir(), "register"))
	for b.Loop() {
		if _, err := Put(b.Context(), f, "k", []byte("v")); err != nil {
			b.Fatal(err)
		}
	}
}

// sampleFile is a file with three transactions, and where the last of them begins.
func sampleFile(t testing.TB) (text []byte, lastLine int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "register")
	f := openTest(t, path)
	mustPut(t, f, "a", "1")
	if err := f.exclusive(t.Context(), f.compact); err != nil {
		t.Fatal(err)
	}
	mustPut(t, f, "b", "2")
	mustPut(t, f, "c", "3")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text, bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
}

func openTest(t testing.TB, path string) *File {
	t.Helper()
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func openText(t testing.TB, text []byte) *File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "register")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return openTest(t, path)
}

func appendText(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func line(t *testing.T, v any) string {
	t.Helper()
	text, err := encodeLine(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func mustPut(t testing.TB, f *File, key, value string) {
	t.Helper()
	if _, err := Put(t.Context(), f, key, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func wantContent(t *testing.T, f *File, want map[string]string) {
	t.Helper()
	entries, _, err := f.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		got[e.Key] = string(e.Value)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func wantSame(t *testing.T, a, b *File) {
	t.Helper()
	inA, revA, errA := a.List(t.Context(), "")
	inB, revB, errB := b.List(t.Context(), "")
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	if revA != revB {
		t.Fatalf("revisions %d and %d", revA, revB)
	}
	if diff := cmp.Diff(inA, inB); diff != "" {
		t.Fatal(diff)
	}
}
