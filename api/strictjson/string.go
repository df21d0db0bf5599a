package strictjson

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// scanString takes the string that begins at pos. Without escapes, which is nearly always, it is a part of the text.
func (r *Reader) scanString() string {
	start := r.pos + 1
	for i := start; i < len(r.text); i++ {
		switch c := r.text[i]; {
		case c == '"':
			r.pos = i + 1
			return r.text[start:i]
		case c == '\\':
			return r.unescape(start, i)
		case c < ' ':
			r.pos = i
			r.syntax("there is a control character in a string")
			return ""
		}
	}
	r.pos = len(r.text)
	r.syntax("a string does not end")
	return ""
}

// unescape takes a string that begins at start and has its first escape at i.
func (r *Reader) unescape(start, i int) string {
	var b strings.Builder
	b.WriteString(r.text[start:i])
	for r.pos = i; r.pos < len(r.text); {
		switch c := r.text[r.pos]; {
		case c == '"':
			r.pos++
			return b.String()
		case c == '\\':
			character, ok := r.scanEscape()
			if !ok {
				r.syntax("there is no such escape")
				return ""
			}
			b.WriteRune(character)
		case c < ' ':
			r.syntax("there is a control character in a string")
			return ""
		default:
			b.WriteByte(c)
			r.pos++
		}
	}
	r.syntax("a string does not end")
	return ""
}

// escapes are the characters that follow a backslash, and what they mean.
var escapes = map[byte]rune{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// scanEscape takes the escape at pos. A surrogate must be followed by its other half: on its own it is no character.
func (r *Reader) scanEscape() (rune, bool) {
	rest := r.text[r.pos+1:]
	if rest == "" {
		return 0, false
	}
	if character, ok := escapes[rest[0]]; ok {
		r.pos += 2
		return character, true
	}
	first, ok := hexEscape(r.text[r.pos:])
	if !ok {
		return 0, false
	}
	const length = len(`\u0000`)
	if !utf16.IsSurrogate(first) {
		r.pos += length
		return first, true
	}
	second, ok := hexEscape(r.text[r.pos+length:])
	pair := utf16.DecodeRune(first, second)
	if !ok || pair == utf8.RuneError {
		return 0, false
	}
	r.pos += 2 * length
	return pair, true
}

// hexEscape reads \u and four hexadecimal digits.
func hexEscape(text string) (rune, bool) {
	if len(text) < len(`\u0000`) || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	var value rune
	for _, c := range []byte(text[2:6]) {
		switch {
		case '0' <= c && c <= '9':
			value = value<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			value = value<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			value = value<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return value, true
}
