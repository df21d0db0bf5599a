package feed

import "time"

// groupBytes is what a transaction without wanted changes counts in a window: it only moves the position.
const groupBytes = 64

// group is a transaction that was read, or the part of it that was not handed over yet.
type group struct {
	Transaction

	bytes int
}

// proof is an acknowledged marker.
type proof struct {
	gtid    GTID
	begunAt time.Time // before its commit was sent
}

// window is what was read from one primary and may still be lost: it decides what is released. It does no IO, and is thrown away
// with the connections that filled it.
type window struct {
	limit  int // of bytes
	groups []group
	bytes  int

	safe       GTID            // the newest marker: what is in front of it in the log survives
	unread     proof           // the oldest marker that was not seen in the log yet
	read       map[uint32]GTID // the newest transaction of each domain whose end was released
	completeAt time.Time
}

func newWindow(limit int, from Position) (*window, error) {
	read, err := from.gtids()
	return &window{limit: limit, read: read}, err
}

// add takes the next part of the log.
func (w *window) add(p *part) {
	last := len(w.groups) - 1
	if last < 0 || w.groups[last].Complete {
		w.groups = append(w.groups, group{Transaction: Transaction{GTID: p.gtid, CommittedAt: p.committedAt}, bytes: groupBytes})
		w.bytes += groupBytes
		last++
	}
	g := &w.groups[last]
	g.Changes = append(g.Changes, p.changes...)
	g.bytes += p.bytes
	w.bytes += p.bytes
	if g.Complete = p.ends; p.undone {
		g.Changes = nil
	}
}

// prove takes an acknowledged marker.
func (w *window) prove(p proof) {
	w.safe = p.gtid
	if w.unread == (proof{}) {
		w.unread = p
	}
}

// full says that nothing more may be read before something was released.
func (w *window) full() bool { return w.bytes >= w.limit }

// waits says that there are changes which nothing has proved yet.
func (w *window) waits() bool {
	for _, g := range w.groups[w.survivors():] {
		if len(g.Changes) > 0 {
			return true
		}
	}
	return false
}

// survivors is the number of groups that cannot be lost: those up to the last one that the newest marker covers. Groups of other
// domains among them are in front of the marker too.
func (w *window) survivors() int {
	if len(w.groups) > 0 && w.groups[0].GTID.Domain == w.safe.Domain && !w.safe.covers(w.groups[0].GTID) {
		return 0 // nor are those behind it: this is asked for every event, and many may wait
	}
	for i := len(w.groups); i > 0; i-- {
		if w.safe.covers(w.groups[i-1].GTID) {
			return i
		}
	}
	return 0
}

// release takes out what survives. A transaction that is not read to its end stays, unless it has filled the window.
func (w *window) release() (list []Transaction, moved bool) {
	n := w.survivors()
	for _, g := range w.groups[:n] {
		if !g.Complete {
			break
		}
		w.groups[0] = group{} // or the array would keep its changes
		w.groups = w.groups[1:]
		w.bytes -= g.bytes
		w.read[g.GTID.Domain] = g.GTID
		moved = true
		if len(g.Changes) > 0 || g.First > 0 {
			list = append(list, g.Transaction)
		}
		n--
	}
	if n > 0 && w.full() {
		list = append(list, w.cut())
	}
	if w.unread != (proof{}) && w.read[w.unread.gtid.Domain].covers(w.unread.gtid) {
		w.completeAt, w.unread = w.unread.begunAt, proof{}
	}
	return list, moved
}

// cut takes what was read out of the transaction under way.
func (w *window) cut() Transaction {
	g := &w.groups[0]
	t := g.Transaction
	w.bytes -= g.bytes
	g.First, g.Changes, g.bytes = g.First+len(g.Changes), nil, 0
	return t
}

// position is behind everything that was released.
func (w *window) position() Position { return positionOf(w.read) }

// behind is the number of transactions between the newest marker and what was released.
func (w *window) behind() uint64 {
	if at := w.read[w.safe.Domain]; w.safe.Seq > at.Seq {
		return w.safe.Seq - at.Seq
	}
	return 0
}
