package state

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Merge returns what a merge patch (RFC 7396) makes of a document. Both are JSON objects; a nil document is an empty one. Members that
// are null in the patch are removed, objects are merged, everything else is replaced. Numbers stay as they were written.
func Merge(document, patch []byte) ([]byte, error) {
	target := map[string]any{}
	if document != nil {
		if err := decodeObject(document, &target); err != nil {
			return nil, err
		}
	}
	var changes map[string]any
	if err := decodeObject(patch, &changes); err != nil {
		return nil, err
	}
	var merged bytes.Buffer
	encoder := json.NewEncoder(&merged)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(merge(target, changes)); err != nil {
		return nil, fmt.Errorf("encode the merged document: %w", err)
	}
	return bytes.TrimSuffix(merged.Bytes(), []byte("\n")), nil
}

func decodeObject(text []byte, object *map[string]any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(object); err != nil {
		return fmt.Errorf("read the object: %w", err)
	}
	return nil
}

func merge(target, changes map[string]any) map[string]any {
	for name, value := range changes {
		inner, isObject := value.(map[string]any)
		switch {
		case value == nil:
			delete(target, name)
		case isObject:
			old, _ := target[name].(map[string]any)
			if old == nil {
				old = map[string]any{}
			}
			target[name] = merge(old, inner)
		default:
			target[name] = value
		}
	}
	return target
}
