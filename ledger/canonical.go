package ledger

import "encoding/binary"

// What is hashed is written without room for doubt: numbers have a fixed length, and texts their length in front, so that no
// two lists of values have the same bytes.

func appendNumber(b []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(n))
}

func appendSized[T ~string | ~[]byte](b []byte, text T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	return append(b, text...)
}
