package failover

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/scratch"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// An agent gives a copy of its running database to whoever has the token of a rebuild that names it as the donor. It asks the register each
// time, so an agent that is cut off gives nothing. The copy goes over the network as it is, like replication does.

const (
	backupPath  = "/backup"
	bytesHeader = "Statesvc-Data-Bytes" // about how much room the copy takes

	orderLookEvery = 100 * time.Millisecond // a copy holds locks that a failover may wait for
	copyStallMax   = 30 * time.Second       // without a byte: somebody waits for a lock, and others for him
	headerPatience = 5 * time.Second
)

// errNotOrdered says that the record does not order the rebuild any more.
var errNotOrdered = errors.New("the rebuild is not ordered any more")

// serveBackups listens where others fetch copies. Where that is not possible, the node neither gives nor gets any.
func (a *Agent) serveBackups(ctx context.Context) (stop func(), err error) {
	if a.cfg.BackupListen == "" {
		return func() {}, nil
	}
	if err := mariadb.BackupInstalled(); err != nil {
		a.cfg.Log.WarnContext(ctx, "the node can be neither rebuilt nor copied", "error", err)
		return func() {}, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.cfg.BackupListen)
	if err != nil {
		return nil, fmt.Errorf("listen for those who fetch copies: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+backupPath, a.giveBackup)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerPatience, BaseContext: func(net.Listener) context.Context { return ctx }}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	a.report.set(func(h *Host) { h.Backup = a.cfg.BackupAddress })
	return func() {
		_ = server.Close()
		<-served
		a.giving.Lock()   // whoever gives a copy has noticed
		a.giving.Unlock() //nolint:staticcheck // nothing is guarded but the end
	}, nil
}

// giveBackup answers with a copy of the data. If the copy fails the connection is broken off, so that nobody takes a part for the whole.
func (a *Agent) giveBackup(w http.ResponseWriter, r *http.Request) {
	if !a.giving.TryLock() {
		http.Error(w, "a copy is being made already", http.StatusConflict)
		return
	}
	defer a.giving.Unlock()
	record, err := a.readRecord(r.Context())
	if err != nil {
		http.Error(w, "the register does not answer", http.StatusServiceUnavailable)
		return
	}
	_, one, ok := record.rebuilding()
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || one.Donor != a.cfg.Node || record.Phase != shard.PhaseServing || !sameToken(token, one.Token) {
		http.Error(w, "no rebuild with this token is ordered from this node", http.StatusForbidden)
		return
	}
	ctx, stop := a.whileOrdered(r.Context(), one.ID)
	defer stop()
	a.cfg.Log.InfoContext(ctx, "giving a copy of the data", "rebuild", one.ID)
	w.Header().Set(bytesHeader, strconv.FormatUint(dataBytes(a.data()), 10))
	if err := a.sendBackup(ctx, w); err != nil {
		a.cfg.Log.WarnContext(ctx, "the copy was not finished", "rebuild", one.ID, "error", errors.Join(err, context.Cause(ctx)))
		panic(http.ErrAbortHandler)
	}
	a.cfg.Log.InfoContext(ctx, "gave a copy of the data", "rebuild", one.ID)
}

func sameToken(got, want string) bool {
	return want != "" && subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}

// sendBackup runs the program that copies, which dies with the agent.
func (a *Agent) sendBackup(ctx context.Context, w http.ResponseWriter) error {
	folder := filepath.Join(a.cfg.Folder, "backup")
	if err := errors.Join(os.RemoveAll(folder), os.MkdirAll(folder, 0o700)); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }() // a leftover is harmless, and goes with the next copy
	credentials, err := a.writeCredentials(folder)
	if err != nil {
		return err
	}
	command, err := mariadb.BackupCommand(a.data(), credentials, filepath.Join(folder, "target"))
	if err != nil {
		return err
	}
	out := &passage{write: w.Write, abort: func() { _ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0)) }}
	command.Stdout = out
	return runCopy(ctx, command, filepath.Join(a.cfg.Folder, "backup.log"), out)
}

// writeCredentials keeps the password out of the list of processes.
func (a *Agent) writeCredentials(folder string) (path string, err error) {
	cfg, err := mysql.ParseDSN(a.cfg.DSN)
	if err != nil {
		return "", fmt.Errorf("parse the agent's DSN: %w", err)
	}
	host, port, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return "", fmt.Errorf("parse the agent's DSN: %w", err)
	}
	text := fmt.Sprintf("[mariadb-backup]\nuser=%s\npassword=%s\nhost=%s\nport=%s\nprotocol=tcp\n",
		quoteOption(cfg.User), quoteOption(cfg.Passwd), quoteOption(host), port)
	path = filepath.Join(folder, "credentials.cnf")
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// quoteOption writes a value for a file of options.
func quoteOption(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// passage is a stream on its way, of which is known how much has passed, and which can be broken off.
type passage struct {
	write func([]byte) (int, error)
	read  func([]byte) (int, error)
	abort func() // makes a read or write that waits fail
	bytes atomic.Uint64
}

func (c *passage) Write(p []byte) (n int, err error) {
	n, err = c.write(p)
	c.bytes.Add(uint64(n))
	return n, err
}

func (c *passage) Read(p []byte) (n int, err error) {
	n, err = c.read(p)
	c.bytes.Add(uint64(n))
	return n, err
}

// runCopy runs a program to its end, or kills it when ctx ends or when nothing has passed for too long. What it says goes into a log; nil
// for passing: it sends us nothing.
func runCopy(ctx context.Context, command *exec.Cmd, logPath string, passing *passage) error {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	command.Stderr = log
	if command.Stdout == nil {
		command.Stdout = log
	}
	process, err := scratch.StartProcess(command)
	if err != nil {
		return err
	}
	look := time.NewTicker(time.Second)
	defer look.Stop()
	last, passedAt := uint64(0), time.Time{}
	for {
		select {
		case <-process.Done():
			if err := process.Err(); err != nil {
				return fmt.Errorf("%s: %w: %s", filepath.Base(command.Path), err, lastLine(logPath))
			}
			return nil
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), end(process, passing))
		case now := <-look.C:
			if passing == nil {
				continue
			}
			if passed := passing.bytes.Load(); passed != last || passedAt.IsZero() {
				last, passedAt = passed, now
			}
			if now.Sub(passedAt) > copyStallMax {
				return errors.Join(fmt.Errorf("%s: nothing has passed for %s", filepath.Base(command.Path), copyStallMax), end(process, passing))
			}
		}
	}
}

// end ends a program, and before that what it may be waiting for in us.
func end(process *scratch.Process, passing *passage) error {
	if passing != nil {
		passing.abort()
	}
	return process.Kill()
}

// lastLine is what a program has said last.
func lastLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// dataBytes is about what a copy of a data directory takes: all but the logs that are not copied.
func dataBytes(data string) (sum uint64) {
	_ = filepath.WalkDir(data, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), "binlog.") || strings.HasPrefix(entry.Name(), "relay.") {
			return nil //nolint:nilerr // files come and go in a database that runs
		}
		if info, err := entry.Info(); err == nil {
			sum += uint64(info.Size())
		}
		return nil
	})
	return sum
}

// readRecord reads the record of the shard from the register, and not from memory.
func (a *Agent) readRecord(ctx context.Context) (Record, error) {
	ctx, cancel := context.WithTimeout(ctx, agentCallPatience)
	defer cancel()
	record, _, err := ReadRecord(ctx, a.cfg.Register, a.cfg.Shard)
	return record, err
}

// whileOrdered ends with errNotOrdered soon after the record does not order a rebuild any more. A register that does not answer says
// nothing.
func (a *Agent) whileOrdered(ctx context.Context, id string) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for sleep(ctx, orderLookEvery) == nil {
			record, err := a.readRecord(ctx)
			if _, one, _ := record.rebuilding(); err == nil && one.ID != id || errors.Is(err, register.ErrNotFound) {
				cancel(errNotOrdered)
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-watched
	}
}
