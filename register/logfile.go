package register

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// format is the version of the file's layout; a file of another version is refused, not guessed at.
const format = 1

const checksumDigits = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the first line: the revision of the snapshot, and how many lines it has.
type header struct {
	Register int   `json:"register"`
	Rev      int64 `json:"rev"`
	Entries  int   `json:"entries"`
}

// record is every other line. In the snapshot it is one entry with the revision that wrote it; in the log it is one
// transaction, and the revisions follow each other without a gap.
type record struct {
	Rev int64      `json:"rev"`
	Ops []recordOp `json:"ops"`
}

type recordOp struct {
	Key    string `json:"k"`
	Value  []byte `json:"v,omitempty"`
	Delete bool   `json:"d,omitempty"`
}

func newRecord(rev int64, ops []Op) record {
	r := record{Rev: rev, Ops: make([]recordOp, len(ops))}
	for i, op := range ops {
		r.Ops[i] = recordOp(op)
	}
	return r
}

func (r record) events() []Event {
	events := make([]Event, len(r.Ops))
	for i, op := range r.Ops {
		events[i] = Event{Entry: Entry{Key: op.Key, Value: op.Value, Rev: r.Rev}, Deleted: op.Delete}
	}
	return events
}

// encodeLine is "<crc32c of the JSON in hex> <JSON>\n". JSON escapes newlines, so a line is a record and nothing else.
func encodeLine(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(body, castagnoli), body), nil
}

// decodeLine checks the checksum of a line without its newline. It reports why it refuses, for the human who repairs.
func decodeLine(line []byte, v any) error {
	if len(line) <= checksumDigits || line[checksumDigits] != ' ' {
		return fmt.Errorf("%d bytes without a checksum", len(line))
	}
	want, err := strconv.ParseUint(string(line[:checksumDigits]), 16, 32)
	if err != nil {
		return fmt.Errorf("checksum: %w", err)
	}
	body := line[checksumDigits+1:]
	if got := crc32.Checksum(body, castagnoli); uint32(want) != got {
		return fmt.Errorf("checksum is %08x, the line says %08x", got, want)
	}
	return json.Unmarshal(body, v)
}

// tail is the outcome of reading log lines.
type tail struct {
	records []record
	size    int64 // of the whole lines; what follows them is torn
	torn    bool
}

// parseTail reads the transactions after rev. A bad line with nothing after it is a write that was interrupted: it is
// reported as torn. A bad line with others after it was acknowledged once: ErrCorrupt.
func parseTail(data []byte, rev int64) (tail, error) {
	var t tail
	for len(data) > 0 {
		line, rest, whole := bytes.Cut(data, []byte{'\n'})
		r, err := decodeRecord(line, whole)
		if err != nil && len(rest) == 0 && !holdsAnother(line) {
			t.torn = true
			return t, nil
		}
		if err != nil {
			return tail{}, fmt.Errorf("%w: line after revision %d: %w", ErrCorrupt, rev, err)
		}
		if r.Rev != rev+1 {
			return tail{}, fmt.Errorf("%w: revision %d follows %d", ErrCorrupt, r.Rev, rev)
		}
		rev = r.Rev
		t.records = append(t.records, r)
		t.size += int64(len(line)) + 1
		data = rest
	}
	return t, nil
}

func decodeRecord(line []byte, whole bool) (r record, err error) {
	if !whole {
		return r, io.ErrUnexpectedEOF
	}
	err = decodeLine(line, &r)
	return r, err
}

// lineStart begins every record behind its checksum. No key and no value can contain it, for quotes in them are escaped.
var lineStart = []byte(` {"rev":`)

// holdsAnother tells whether a second record begins inside line, because the newline between them is damaged.
func holdsAnother(line []byte) bool {
	return bytes.LastIndex(line, lineStart) > checksumDigits
}

// snapshot is the first part of a file.
type snapshot struct {
	rev     int64
	content content
	size    int64
}

// parseSnapshot reads header and snapshot. They were synced before the file got its name, so any fault is ErrCorrupt.
func parseSnapshot(data []byte) (snapshot, error) {
	var h header
	rest, err := nextLine(data, &h)
	if err != nil {
		return snapshot{}, fmt.Errorf("%w: header: %w", ErrCorrupt, err)
	}
	if h.Register != format {
		return snapshot{}, fmt.Errorf("%w: format %d, this program reads %d", ErrCorrupt, h.Register, format)
	}
	s := snapshot{rev: h.Rev}
	for i := range h.Entries {
		var r record
		if rest, err = nextLine(rest, &r); err != nil {
			return snapshot{}, fmt.Errorf("%w: snapshot entry %d of %d: %w", ErrCorrupt, i+1, h.Entries, err)
		}
		for _, e := range r.events() {
			s.content.apply(e)
		}
	}
	s.size = int64(len(data) - len(rest))
	return s, nil
}

func nextLine(data []byte, v any) (rest []byte, err error) {
	line, rest, whole := bytes.Cut(data, []byte{'\n'})
	if !whole {
		return nil, io.ErrUnexpectedEOF
	}
	return rest, decodeLine(line, v)
}

// encodeSnapshot is the whole text of a fresh file.
func encodeSnapshot(rev int64, entries []Entry) ([]byte, error) {
	text, err := encodeLine(header{Register: format, Rev: rev, Entries: len(entries)})
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		line, err := encodeLine(newRecord(e.Rev, []Op{{Key: e.Key, Value: e.Value}}))
		if err != nil {
			return nil, err
		}
		text = append(text, line...)
	}
	return text, nil
}

// replaceFile puts text under path in one step: a crash at any point leaves the old file or the new one, whole. The caller
// holds the lock, so the temporary name is his, and what a killed process left under it is overwritten.
func replaceFile(path string, text []byte) error {
	temporary := path + ".tmp"
	if err := writeSynced(temporary, text); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return syncDir(path)
}

func writeSynced(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

// syncDir makes the name of path durable. Without it a power cut could bring an old file back under the name.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
