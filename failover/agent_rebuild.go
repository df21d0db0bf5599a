package failover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/statesvc/statesvc/internal/mariadb"
)

// A rebuild makes a data directory beside the old one, and is finished in the moment in which it takes its place. Whatever ends an agent
// before that leaves the old data where they were; the next attempt begins anew. The old data are put aside and kept until the new ones
// have been in sync for a while.
const (
	draftFolder = "data.rebuild" // what is being made
	oldFolder   = "data.old"     // what was there before, at most one

	rebuiltFile = "statesvc_rebuilt" // in a data directory: the id of the rebuild that has made it; the last file of a draft
	servedSince = "statesvc_served"  // in data.old: what has taken its place was in sync when this was written
	positionLog = "xtrabackup_binlog_info"

	failedStartsMax = 3 // in a row, before the data are said to be the reason
	finishPatience  = 10 * time.Minute
	oldLookEvery    = 10 * time.Second
	roomPercent     = 110 // of the donor's data that have to fit besides what a start needs
)

// unfit says why the database cannot be started with the data that are here, or "".
func (a *Agent) unfit() string {
	if _, err := os.Stat(a.mark(servedFile)); err != nil {
		return "" // what has never belonged to a shard is made
	}
	for _, name := range []string{"", "ibdata1", "mysql"} {
		if _, err := os.Stat(filepath.Join(a.data(), name)); errors.Is(err, os.ErrNotExist) {
			return "its data are gone: there is no " + filepath.Join("data", name)
		}
	}
	if boot, err := os.ReadFile(a.mark(relaxedFile)); err == nil && string(boot) != bootID() {
		return "the machine has ended while the database left files unsynced; if nobody can be copied, removing " + a.mark(relaxedFile) +
			" lets it start all the same"
	}
	return ""
}

// noteStart counts starts that ended before the database answered. Whoever killed it is not the data's fault.
func (a *Agent) noteStart(one *life, answered bool) {
	switch {
	case answered:
		a.failedStarts = 0
	case one.process.Err() != nil && !wasKilled(one.process.Err()):
		a.failedStarts++
	}
	if a.failedStarts >= failedStartsMax {
		why := fmt.Sprintf("the database has ended %d times before it answered: %s", failedStartsMax, how(one))
		a.report.set(func(h *Host) { h.Unfit = why })
	}
}

func wasKilled(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && (status.Signal() == syscall.SIGKILL || status.Signal() == syscall.SIGTERM)
}

// rebuild does what the record orders, once for each order, and then waits for the controller to take the order back.
func (a *Agent) rebuild(ctx context.Context, record *Record) {
	one := record.Rebuilds[a.cfg.Node]
	if a.rebuiltBy() == one.ID {
		a.reportRebuild(HostRebuild{ID: one.ID, Done: true}, "rebuilt from "+one.Donor)
	} else if a.report.current().Rebuild.ID != one.ID {
		began := a.cfg.Now()
		a.cfg.Log.WarnContext(ctx, "rebuilding the database", "rebuild", one.ID, "donor", one.Donor, "why", one.Why)
		err := a.replaceData(ctx, record, &one)
		switch {
		case ctx.Err() != nil || errors.Is(err, errNotOrdered):
			a.cfg.Log.WarnContext(ctx, "the rebuild was interrupted", "rebuild", one.ID, "error", err)
		case err != nil:
			a.cfg.Log.ErrorContext(ctx, "the rebuild has failed", "rebuild", one.ID, "error", err)
			a.reportRebuild(HostRebuild{ID: one.ID, Error: err.Error()}, "the rebuild has failed: "+err.Error())
		default:
			a.failedStarts = 0
			a.cfg.Log.InfoContext(ctx, "rebuilt the database", "rebuild", one.ID, "took_ms", a.cfg.Now().Sub(began).Milliseconds())
			a.report.set(func(h *Host) { h.Unfit = "" })
			a.reportRebuild(HostRebuild{ID: one.ID, Done: true}, "rebuilt from "+one.Donor)
		}
	}
	_ = sleep(ctx, agentRetryEvery)
}

func (a *Agent) reportRebuild(r HostRebuild, doing string) {
	a.report.set(func(h *Host) { h.Rebuild, h.Doing, h.StartID = r, doing, "" })
}

// rebuiltBy is the id of the rebuild that has made the data that are here.
func (a *Agent) rebuiltBy() string {
	id, err := os.ReadFile(filepath.Join(a.data(), rebuiltFile))
	if err != nil {
		return ""
	}
	return string(id)
}

// replaceData is one attempt.
func (a *Agent) replaceData(ctx context.Context, record *Record, one *Rebuild) error {
	ctx, stop := a.whileOrdered(ctx, one.ID)
	defer stop()
	draft := a.mark(draftFolder)
	if err := errors.Join(os.RemoveAll(draft), os.MkdirAll(draft, 0o700)); err != nil {
		return fmt.Errorf("make room for the copy: %w", err)
	}
	err := a.fetch(ctx, one, draft)
	if err == nil {
		err = a.finishDraft(ctx, draft, record.Epoch, one.ID)
	}
	if err == nil {
		err = ctx.Err() // from here on it is not interrupted
	}
	if err != nil {
		return errors.Join(err, context.Cause(ctx), os.RemoveAll(draft))
	}
	return a.swap()
}

// fetch unpacks the donor's copy as it comes.
func (a *Agent) fetch(ctx context.Context, one *Rebuild, draft string) error {
	ctx, abort := context.WithCancel(ctx)
	defer abort()
	response, err := a.ask(ctx, one)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	needed, _ := strconv.ParseUint(response.Header.Get(bytesHeader), 10, 64)
	if err := a.makeRoom(needed); err != nil {
		return err
	}
	command, err := mariadb.UnpackCommand(draft)
	if err != nil {
		return err
	}
	in := &passage{read: response.Body.Read, abort: abort}
	checked := &brokenOff{in: in}
	command.Stdin = checked
	progressing, done := context.WithCancel(ctx)
	defer done()
	go func() {
		for sleep(progressing, time.Second) == nil {
			a.report.set(func(h *Host) {
				h.StartID = ""
				h.Doing = fmt.Sprintf("rebuilding: %d of about %d MiB from %s", in.bytes.Load()>>20, needed>>20, one.Donor)
			})
		}
	}()
	err = runCopy(ctx, command, a.mark("rebuild.log"), in)
	if broke := checked.err; broke != nil { // the end of a stream that is cut off looks to the program like its end
		err = errors.Join(fmt.Errorf("the copy from %s was broken off: %w", one.Donor, broke), err)
	}
	return err
}

// brokenOff keeps the error of a reader, which a program that reads from it takes for the end.
type brokenOff struct {
	in  io.Reader
	err error // to be read when the program has ended
}

func (b *brokenOff) Read(p []byte) (int, error) {
	n, err := b.in.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

// ask calls the agent of the donor, whose address it has reported to the register.
func (a *Agent) ask(ctx context.Context, one *Rebuild) (*http.Response, error) {
	calling, cancel := context.WithTimeout(ctx, agentCallPatience)
	defer cancel()
	hosts, err := Hosts(calling, a.cfg.Register)
	if err != nil {
		return nil, err
	}
	address := hosts[one.Donor].Backup
	if address == "" {
		return nil, fmt.Errorf("the agent of %s gives no copies", one.Donor)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+backupPath, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+one.Token)
	transport := &http.Transport{
		DialContext: (&net.Dialer{Timeout: sessionPatience}).DialContext, ResponseHeaderTimeout: copyStallMax, DisableKeepAlives: true,
		DisableCompression: true,
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("ask %s for a copy: %w", one.Donor, err)
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 200))
		response.Body.Close()
		return nil, fmt.Errorf("%s gives no copy: %s: %s", one.Donor, response.Status, strings.TrimSpace(string(text)))
	}
	return response, nil
}

// makeRoom sees to it that a copy fits beside the data that are here. Old data that are not needed any more go; others never.
func (a *Agent) makeRoom(needed uint64) error {
	needed = needed*roomPercent/100 + a.cfg.FreeFloor
	if freeBytes(a.cfg.Folder) < needed && a.oldIsReplaced() {
		if err := os.RemoveAll(a.mark(oldFolder)); err != nil {
			return fmt.Errorf("remove the data of the rebuild before: %w", err)
		}
	}
	if free := freeBytes(a.cfg.Folder); free < needed {
		return fmt.Errorf("%d bytes of disk space are free, a copy needs %d", free, needed)
	}
	return nil
}

// finishDraft makes an unpacked copy a data directory of this node, and starts it once, without a network, to see that it can be.
func (a *Agent) finishDraft(ctx context.Context, draft string, epoch uint64, id string) error {
	command, err := mariadb.ApplyCommand(draft)
	if err != nil {
		return err
	}
	a.report.set(func(h *Host) { h.StartID, h.Doing = "", "rebuilding: preparing the copy" })
	if err := runCopy(ctx, command, a.mark("rebuild.log"), nil); err != nil {
		return err
	}
	position, err := a.position(draft)
	if err != nil {
		return err
	}
	if err := a.settle(ctx, draft, position, epoch); err != nil {
		return err
	}
	unix.Sync() // before the mark: a draft that has one is whole
	return writeSynced(filepath.Join(draft, rebuiltFile), id)
}

// position is how much of the shard's history a copy has.
func (a *Agent) position(draft string) (GTID, error) {
	text, err := os.ReadFile(filepath.Join(draft, positionLog))
	if err != nil {
		return GTID{}, fmt.Errorf("the copy does not say what it has: %w", err)
	}
	fields := strings.Fields(string(text)) // file, offset, GTIDs
	if len(fields) != 3 {
		return GTID{}, fmt.Errorf("the copy does not say what it has: %q", text)
	}
	g, err := ParseGTID(fields[2], uint32(a.cfg.Shard))
	if err == nil && g == (GTID{}) {
		err = fmt.Errorf("the copy has nothing of the history of shard %d: %q", a.cfg.Shard, text)
	}
	return g, err
}

// settleSQL runs before anybody can connect. The binary log begins behind what the copy has, so that the node neither takes nor gives
// anything twice; and the node promises the epoch of the order, as what it had promised is gone with its old data.
const settleSQL = `SET SESSION sql_log_bin=0;
SET GLOBAL gtid_binlog_state='%[1]s';
SET GLOBAL gtid_slave_pos='%[1]s';
DELETE FROM statesvc_local.promise;
INSERT INTO statesvc_local.promise (server_id, epoch, holder) VALUES (@@server_id, %[2]d, '');
SHUTDOWN;
`

func (a *Agent) settle(ctx context.Context, draft string, position GTID, epoch uint64) error {
	script := filepath.Join(draft, "statesvc_settle.sql")
	if err := os.WriteFile(script, fmt.Appendf(nil, settleSQL, position, epoch), 0o600); err != nil {
		return err
	}
	command, err := mariadb.Command(slices.Concat(a.cfg.Settings, []string{
		"datadir=" + draft, "tmpdir=" + draft, "socket=socket", "pid_file=pid", "log_error=" + a.mark("rebuild.log"),
		"read_only=1", "skip_slave_start=1", "skip_networking=1", "init_file=" + script,
	}))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, finishPatience)
	defer cancel()
	if err := runCopy(ctx, command, a.mark("rebuild.log"), nil); err != nil {
		return fmt.Errorf("start the copy: %w", err)
	}
	state, err := os.ReadFile(filepath.Join(draft, "binlog.state"))
	if err != nil || strings.TrimSpace(string(state)) != position.String() {
		return fmt.Errorf("the copy stands at %q, not at %s: %s", state, position, lastLine(a.mark("rebuild.log")))
	}
	return os.Remove(script)
}

// swap puts the draft in the place of the data. What is there goes aside, unless what it had replaced itself is still there: then it has
// never been of use, and the older data are what somebody may want to look at.
func (a *Agent) swap() error {
	var err error
	if a.hasOld() && !a.oldIsReplaced() {
		err = os.RemoveAll(a.data())
	} else {
		err = errors.Join(os.RemoveAll(a.mark(oldFolder)), renameIfThere(a.data(), a.mark(oldFolder)))
	}
	if err != nil {
		return fmt.Errorf("put the old data aside: %w", err)
	}
	return a.finishSwap()
}

// finishSwap is the second half of a swap, and what an agent does first that was killed between the halves. A mark of unsynced files is
// of the old data.
func (a *Agent) finishSwap() error {
	if _, err := os.Stat(filepath.Join(a.mark(draftFolder), rebuiltFile)); err != nil {
		return nil //nolint:nilerr // there is no draft, or not a whole one
	}
	if _, err := os.Stat(a.data()); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Rename(a.mark(draftFolder), a.data()); err != nil {
		return fmt.Errorf("name the new data: %w", err)
	}
	if err := os.Remove(a.mark(relaxedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	unix.Sync()
	return nil
}

func renameIfThere(from, to string) error {
	if err := os.Rename(from, to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (a *Agent) hasOld() bool {
	_, err := os.Stat(a.mark(oldFolder))
	return err == nil
}

// oldIsReplaced says that the data that took the place of the old ones have been in sync.
func (a *Agent) oldIsReplaced() bool {
	_, err := os.Stat(filepath.Join(a.mark(oldFolder), servedSince))
	return err == nil
}

// forgetOld notes when the new data have come in sync, and removes the old ones when that is long enough ago.
func (a *Agent) forgetOld(ctx context.Context, one *life) {
	for ; ; _ = sleep(ctx, oldLookEvery) {
		if ctx.Err() != nil {
			return
		}
		info, err := os.Stat(filepath.Join(a.mark(oldFolder), servedSince))
		switch {
		case err == nil && a.cfg.Now().Sub(info.ModTime()) > a.cfg.KeepOld:
			a.cfg.Log.InfoContext(ctx, "removing the data of before the rebuild", "folder", a.mark(oldFolder))
			err = os.RemoveAll(a.mark(oldFolder))
		case err != nil && a.hasOld() && a.inSync(one):
			err = writeSynced(filepath.Join(a.mark(oldFolder), servedSince), one.startID)
		default:
			err = nil
		}
		if err != nil {
			a.cfg.Log.WarnContext(ctx, "cannot look after the data of before the rebuild", "error", err)
		}
	}
}

// inSync says that the record has this run in sync, or as the primary.
func (a *Agent) inSync(one *life) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.record == nil {
		return false
	}
	role, startID := a.record.RoleOf(a.cfg.Node)
	return startID == one.startID && (role == RolePrimary || role == RoleInSync)
}

// mustRebuild says that the record orders new data, so that the run has to end.
func (a *Agent) mustRebuild() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.record != nil && a.record.BootOf(a.cfg.Node) == BootRebuild
}
