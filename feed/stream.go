package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	my "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/go-sql-driver/mysql"
)

const (
	heartbeat   = 200 * time.Millisecond // how often an idle primary says that it is there
	silenceMax  = 3 * time.Second        // without a word it is not
	dialTimeout = time.Second
	eventsMax   = 64 // read and not yet looked at, here and in go-mysql each; an event has a row at least, and 8 KiB of rows at most
)

// Why a primary does not send its log.
var (
	errPurged   = errors.New("the primary has removed its logs from there")
	errVanished = errors.New("the primary does not know the position")
)

// stream is the binary log of a server, from a position on.
type stream struct {
	events <-chan *replication.BinlogEvent
	broken <-chan error // gets one error, when the stream has ended

	syncer *replication.BinlogSyncer
	wire   *wire
	end    context.CancelFunc
	ended  chan struct{}
}

// openStream connects. wants says which rows are decoded.
func openStream(ctx context.Context, cfg *mysql.Config, who TailerConfig, from Position, wants func(*replication.TableMapEvent) bool,
) (*stream, error) {
	set, err := my.ParseMariadbGTIDSet(string(from))
	if err != nil {
		return nil, fmt.Errorf("position %s: %w", from, err)
	}
	s := &stream{wire: &wire{now: who.Now}, ended: make(chan struct{})}
	s.syncer = replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: who.ServerID, Host: cfg.Addr, User: cfg.User, Password: cfg.Passwd, Localhost: who.Name,
		Flavor:           my.MariaDBFlavor, //nolint:misspell // the name of the field
		SemiSyncEnabled:  false,            // whoever acknowledges counts as a replica that has the transaction
		DisableRetrySync: true,             // what was read before is not proved by what comes after
		HeartbeatPeriod:  heartbeat, FillZeroLogPos: true, DiscardGTIDSet: true, EventCacheCount: eventsMax,
		Dialer: s.wire.dial, Logger: slog.New(slog.DiscardHandler),
		TimestampStringLocation: time.UTC,
		RowsEventDecodeFunc: func(e *replication.RowsEvent, data []byte) error {
			at, err := e.DecodeHeader(data)
			if err != nil || !wants(e.Table) {
				return err
			}
			return e.DecodeData(at, data)
		},
	})
	defer context.AfterFunc(ctx, s.wire.cut)()
	streamer, err := s.syncer.StartSyncGTID(set)
	if err != nil {
		s.shut()
		return nil, fmt.Errorf("read the binary log of %s: %w", cfg.Addr, err)
	}
	s.pump(streamer)
	return s, nil
}

// pump hands events on until the stream ends.
func (s *stream) pump(from *replication.BinlogStreamer) {
	life, end := context.WithCancel(context.Background())
	events, broken := make(chan *replication.BinlogEvent, eventsMax), make(chan error, 1)
	s.events, s.broken, s.end = events, broken, end
	go func() {
		defer close(s.ended)
		for {
			e, err := from.GetEvent(life)
			if err != nil {
				broken <- refusal(err)
				return
			}
			select {
			case events <- e:
			case <-life.Done():
				return
			}
		}
	}()
}

func (s *stream) close() {
	s.end()
	s.shut()
	<-s.ended
}

// shut ends the reader. Its socket is closed first, and no other can be opened: the reader would use it to have the server end
// the connection, and wait.
func (s *stream) shut() {
	s.wire.cut()
	s.syncer.Close()
}

// refusal sorts out why a server has ended a stream.
func refusal(err error) error {
	const cannotRead = 1236
	answer, ok := errors.AsType[*my.MyError](err)
	if !ok || answer.Code != cannotRead {
		return err
	}
	switch text := answer.Message; {
	case strings.Contains(text, "have been purged"), strings.Contains(text, "Could not find first log file"):
		return fmt.Errorf("%w: %w", errPurged, err)
	case strings.Contains(text, "requested to start from GTID"), strings.Contains(text, "is missing the GTID"):
		return fmt.Errorf("%w: %w", errVanished, err)
	}
	return err
}

// wire makes the connection of a stream, and ends it: at once, and for good.
type wire struct {
	now    func() time.Time
	conn   atomic.Pointer[net.Conn]
	isDown atomic.Bool
}

var errCut = errors.New("the connection was cut")

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if w.isDown.Load() {
		return nil, errCut
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w.conn.Store(&conn)
	if w.isDown.Load() {
		return nil, errors.Join(errCut, conn.Close())
	}
	return &patient{conn, w}, nil
}

func (w *wire) cut() {
	w.isDown.Store(true)
	if conn := w.conn.Load(); conn != nil {
		_ = (*conn).Close()
	}
}

// patient is a connection whose every read waits as long as a living server may be silent. A deadline that was set before the
// events were dealt with would measure who deals with them.
type patient struct {
	net.Conn

	of *wire
}

func (p *patient) Read(b []byte) (int, error) {
	if err := p.Conn.SetReadDeadline(p.of.now().Add(silenceMax)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

// SetReadDeadline is how go-mysql wakes its reader. If it fails, go-mysql closes the connection under it; the reader of one that was
// cut is awake.
func (p *patient) SetReadDeadline(at time.Time) error {
	if p.of.isDown.Load() {
		return nil
	}
	return p.Conn.SetReadDeadline(at)
}
