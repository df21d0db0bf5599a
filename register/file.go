package register

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

// Limits of a file register; those of a transaction are beside Txn.
const (
	maxEntries    = 100_000  // inserting moves half of them on average: well below a millisecond
	maxBytes      = 64 << 20 // all of it is in memory, in every process
	pollInterval  = 10 * time.Millisecond
	openTTL       = 10 * time.Second // how long OpenFile waits for the lock
	compactMinLog = 1 << 20          // a log shorter than this is not worth a new file

	fileMode = 0o600 // hashes of API keys are in it
)

// File is a Register in one file, for the processes of one machine; doc.go describes the layout.
type File struct {
	path     string
	lockFile *os.File
	busy     chan struct{} // capacity 1: whoever has put a token in may touch the files; a channel, because ctx ends waiting
	ctx      context.Context
	stop     context.CancelFunc
	loops    sync.WaitGroup // the poll loop and the watchers

	compactMin int64 // compactMinLog; tests lower it

	// mu guards what follows. Only the owner of the busy token writes it, so he may read it without mu; nobody does IO
	// while holding mu.
	mu       sync.RWMutex
	log      *os.File
	info     os.FileInfo // identity of log
	logFrom  int64       // where the log begins, behind the snapshot
	end      int64       // all before it is read, valid and synced
	rev      int64
	content  content
	history  history
	changed  chan struct{} // closed and replaced at every change
	watchers int
	failed   error // a sync failed or the content is corrupt: every call returns it
	closed   bool
}

var _ Register = (*File)(nil)

// OpenFile opens the register at path and creates it if there is none. The directory must exist. Any number of handles may
// be open in any number of processes on the machine. It waits at most openTTL for a process that holds the lock.
func OpenFile(path string) (*File, error) {
	lockFile, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return nil, fmt.Errorf("open register: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	f := &File{
		path: path, lockFile: lockFile, busy: make(chan struct{}, 1), ctx: ctx, stop: stop,
		compactMin: compactMinLog, changed: make(chan struct{}),
	}
	opening, cancel := context.WithTimeout(ctx, openTTL)
	defer cancel()
	if err := f.exclusive(opening, f.createMissing); err != nil {
		stop()
		return nil, errors.Join(fmt.Errorf("open register %s: %w", path, err), f.closeFiles())
	}
	f.loops.Go(f.poll)
	return f, nil
}

// Close ends all watches, waits for them and closes the files. Nothing is lost by not calling it.
func (f *File) Close() error {
	f.mu.Lock()
	wasClosed := f.closed
	f.closed = true
	f.mu.Unlock()
	if wasClosed {
		return nil
	}
	f.stop()
	f.loops.Wait()
	f.busy <- struct{}{} // a transaction that runs now ends first; the token stays, so nobody touches the files any more
	return f.closeFiles()
}

func (f *File) closeFiles() error {
	err := f.lockFile.Close()
	if f.log != nil {
		err = errors.Join(err, f.log.Close())
	}
	return err
}

// Get implements Register. When no other process has written, it costs one stat.
func (f *File) Get(ctx context.Context, key string) (Entry, error) {
	if err := checkKey(key); err != nil {
		return Entry{}, err
	}
	if err := f.refresh(ctx); err != nil {
		return Entry{}, fmt.Errorf("get %q: %w", key, err)
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	entry := f.content.get(key)
	if entry.Rev == 0 {
		return Entry{}, fmt.Errorf("%w: %q", ErrNotFound, key)
	}
	return entry, nil
}

// List implements Register.
func (f *File) List(ctx context.Context, prefix string) ([]Entry, int64, error) {
	if err := f.refresh(ctx); err != nil {
		return nil, 0, fmt.Errorf("list %q: %w", prefix, err)
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.content.list(prefix), f.rev, nil
}

// Txn implements Register. ctx ends the waiting for the lock only: once the lock is held the transaction is decided.
func (f *File) Txn(ctx context.Context, txn Txn) (rev int64, err error) {
	if err := txn.check(); err != nil {
		return 0, err
	}
	err = f.exclusive(ctx, func() error {
		rev, err = f.commit(txn)
		return err
	})
	return rev, err
}

// commit decides txn. The caller holds the lock and the content is current.
func (f *File) commit(txn Txn) (int64, error) {
	if !f.content.holds(txn.If) {
		return 0, ErrConflict
	}
	ops := f.content.effective(txn.Then)
	if len(ops) == 0 {
		return f.rev, nil
	}
	entries, size := f.content.after(ops)
	grows := entries > len(f.content.entries) || size > f.content.bytes
	if grows && (entries > maxEntries || size > maxBytes) {
		return 0, fmt.Errorf("%w: %d entries, %d bytes", ErrFull, entries, size)
	}
	if f.end-f.logFrom > f.compactMin+f.logFrom {
		if err := f.compact(); err != nil {
			return 0, fmt.Errorf("compact: %w", err)
		}
	}
	r := newRecord(f.rev+1, ops)
	line, err := encodeLine(r)
	if err != nil {
		return 0, err
	}
	if err := f.append(line); err != nil {
		return 0, err
	}
	f.publish([]record{r}, int64(len(line)))
	return r.Rev, nil
}

// append makes line durable, or nothing. When even undoing fails nobody knows what the disk holds, and the handle gives up.
func (f *File) append(line []byte) error {
	_, err := f.log.WriteAt(line, f.end)
	if err == nil {
		if err = f.log.Sync(); err == nil {
			return nil
		}
		f.fail(fmt.Errorf("sync: %w", err)) // a second sync could succeed without having written anything
	}
	if undo := f.cutTail(); undo != nil {
		f.fail(undo)
		return errors.Join(err, undo)
	}
	return err
}

// cutTail removes what stands behind the last whole line. It was never acknowledged.
func (f *File) cutTail() error {
	if err := f.log.Truncate(f.end); err != nil {
		return fmt.Errorf("cut torn line: %w", err)
	}
	if err := f.log.Sync(); err != nil {
		return fmt.Errorf("cut torn line: %w", err)
	}
	return nil
}

// compact replaces the file by a snapshot of the content. No event comes of it: other processes read the rest of the old
// file, which they still have open, and arrive at exactly this snapshot.
func (f *File) compact() error {
	text, err := encodeSnapshot(f.rev, f.content.entries)
	if err != nil {
		return err
	}
	if err := replaceFile(f.path, text); err != nil {
		return err
	}
	return f.adopt()
}

// exclusive runs do as the only one who touches the file, in this and all other processes, with the content up to date.
func (f *File) exclusive(ctx context.Context, do func() error) error {
	select {
	case f.busy <- struct{}{}:
		defer func() { <-f.busy }()
	case <-ctx.Done():
		return ctx.Err()
	case <-f.ctx.Done():
		return ErrClosed
	}
	if err := f.usable(); err != nil {
		return err
	}
	if err := f.lock(ctx); err != nil {
		return err
	}
	defer unlock(f.lockFile)
	if f.log != nil { // nil only while OpenFile creates or loads it
		if err := f.catchUp(); err != nil {
			return err
		}
	}
	return do()
}

// lock waits for the lock until ctx ends or the handle is closed.
func (f *File) lock(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(f.ctx, cancel)() //nolint:contextcheck // closing the handle ends the waiting too
	err := lock(ctx, f.lockFile)
	if err != nil && f.ctx.Err() != nil {
		return ErrClosed
	}
	return err
}

// createMissing is the body of OpenFile.
func (f *File) createMissing() error {
	_, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		empty, err := encodeSnapshot(0, nil)
		if err != nil {
			return err
		}
		if err := replaceFile(f.path, empty); err != nil {
			return err
		}
	}
	return f.adopt()
}

func (f *File) usable() error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return ErrClosed
	}
	return f.failed
}

func (f *File) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = err
}

// refresh brings the content up to date if another process has written. A write that was acknowledged before has changed
// the size or the identity of the file, because a line is never removed once it is valid and synced.
func (f *File) refresh(ctx context.Context) error {
	if err := f.usable(); err != nil {
		return err
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	f.mu.RLock()
	current := info.Size() == f.end && os.SameFile(info, f.info)
	f.mu.RUnlock()
	if current {
		return nil
	}
	return f.exclusive(ctx, func() error { return nil })
}

// catchUp reads what others have appended, cuts a torn line, and follows to a new file. The caller holds the lock.
func (f *File) catchUp() error {
	err := f.readTail()
	if err == nil {
		err = f.followReplaced()
	}
	if errors.Is(err, ErrCorrupt) {
		f.fail(err)
	}
	return err
}

func (f *File) readTail() error {
	data, err := io.ReadAll(io.NewSectionReader(f.log, f.end, 1<<62))
	if err != nil || len(data) == 0 {
		return err
	}
	t, err := parseTail(data, f.rev)
	if err != nil {
		return err
	}
	if t.torn {
		if err := f.log.Truncate(f.end + t.size); err != nil {
			return fmt.Errorf("cut torn line: %w", err)
		}
	}
	// Its writer may have been killed before he synced, and nothing may be believed that a power cut can take back.
	if err := f.log.Sync(); err != nil {
		err = fmt.Errorf("sync: %w", err)
		f.fail(err)
		return err
	}
	f.publish(t.records, t.size)
	return nil
}

func (f *File) followReplaced() error {
	info, err := os.Stat(f.path)
	if err != nil || os.SameFile(info, f.info) {
		return err
	}
	return f.adopt()
}

// adopt opens the file that now has the name and goes on from it. Arriving exactly at its snapshot, as after any single
// compaction, nothing is lost. Otherwise the changes in between are unknown, and the watchers are told to list again.
func (f *File) adopt() error {
	file, err := os.OpenFile(f.path, os.O_RDWR, fileMode)
	if err != nil {
		return err
	}
	s, info, err := load(file)
	if err == nil && s.rev < f.rev {
		err = fmt.Errorf("%w: the file went back from revision %d to %d", ErrCorrupt, f.rev, s.rev)
	}
	if err == nil {
		err = syncDir(f.path) // the one who renamed it may have been killed before he did
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	old := f.install(file, info, s)
	if old != nil {
		_ = old.Close() // it was only read; nothing can be lost
	}
	return f.readTail()
}

func load(file *os.File) (snapshot, os.FileInfo, error) {
	info, err := file.Stat()
	if err != nil {
		return snapshot{}, nil, err
	}
	data, err := io.ReadAll(file)
	if err != nil {
		return snapshot{}, nil, err
	}
	s, err := parseSnapshot(data)
	return s, info, err
}

// install switches to file, whose snapshot is s, and returns the file used so far.
func (f *File) install(file *os.File, info os.FileInfo, s snapshot) *os.File {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.log
	if old == nil || s.rev != f.rev {
		f.history.reset(s.rev)
		f.announce()
	}
	f.log, f.info, f.logFrom, f.end = file, info, s.size, s.size
	f.rev, f.content = s.rev, s.content
	return old
}

// publish applies records that are durable, lets readers see them and wakes the watchers.
func (f *File) publish(records []record, size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end += size
	for _, r := range records {
		events := r.events()
		for _, e := range events {
			f.content.apply(e)
		}
		f.history.add(events)
		f.rev = r.Rev
	}
	if len(records) > 0 {
		f.announce()
	}
}

// announce wakes everybody who waits for a change. The caller holds mu.
func (f *File) announce() {
	close(f.changed)
	f.changed = make(chan struct{})
}
