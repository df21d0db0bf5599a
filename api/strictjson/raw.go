package strictjson

import (
	"bytes"
	"encoding/json"
	"strings"
)

// rawDepth is how deep objects and arrays of a raw object may be inside each other: a reader of it must not run out of stack.
const rawDepth = 32

// RawObject takes the object that must come next as it is, without the white space around its parts. Its members may have any names and
// values, null and fractions too; only a name that comes twice in one object is refused, because readers differ in which they believe.
func (r *Reader) RawObject() []byte {
	if !r.expect('{', "an object") {
		return nil
	}
	decoder := json.NewDecoder(strings.NewReader(r.text[r.pos:]))
	decoder.UseNumber()
	if !r.walk(decoder) {
		return nil
	}
	end := r.pos + int(decoder.InputOffset())
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(r.text[r.pos:end])); err != nil {
		r.syntax(err.Error())
		return nil
	}
	r.pos = end
	return compact.Bytes()
}

// level is an open object or array of a raw object.
type level struct {
	names map[string]bool // of an object; nil: an array
	named bool            // the name of a member was read, and its value comes next
}

// walk reads tokens until the first object is closed.
func (r *Reader) walk(decoder *json.Decoder) bool {
	var levels []level
	for {
		token, err := decoder.Token()
		if err != nil {
			r.pos += int(decoder.InputOffset())
			r.syntax("the object is broken")
			return false
		}
		if token == json.Delim('}') || token == json.Delim(']') {
			if levels = levels[:len(levels)-1]; len(levels) == 0 {
				return true
			}
			continue
		}
		if len(levels) > 0 {
			top := &levels[len(levels)-1]
			if top.names != nil && !top.named {
				if !r.rawName(top, token.(string)) {
					return false
				}
				continue
			}
			top.named = false
		}
		if levels = open(levels, token); len(levels) > rawDepth {
			r.fail("is nested too deeply")
			return false
		}
	}
}

func (r *Reader) rawName(top *level, name string) bool {
	if top.names[name] {
		r.fail("has the member " + excerpt(name) + " twice")
		return false
	}
	top.names[name], top.named = true, true
	return true
}

// open adds the level that a token opens, if it does.
func open(levels []level, token json.Token) []level {
	switch token {
	case json.Delim('{'):
		return append(levels, level{names: map[string]bool{}})
	case json.Delim('['):
		return append(levels, level{})
	}
	return levels
}
