package events

import (
	"errors"
	"maps"
	"testing"
)

func TestPosition(t *testing.T) {
	for text, want := range map[string]Position{
		"": {}, "1-0": {1: 0}, "2-120.1-553": {1: 553, 2: 120}, "4095-9223372036854775807": {4095: 1<<63 - 1},
	} {
		got, err := ParsePosition(text)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		again, err := ParsePosition(got.String())
		if err != nil || !maps.Equal(again, want) {
			t.Errorf("%q is written as %q", text, got)
		}
	}
	for _, text := range []string{
		"1", "1-", "-1", "0-1", "4096-1", "1-1.", "1-1.1-2", "1-+1", "1--1", "1-9223372036854775808", "a-b", "1-1 ",
	} {
		if p, err := ParsePosition(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v, %v", text, p, err)
		}
	}
}

func FuzzParsePosition(f *testing.F) {
	f.Add("1-553.2-120")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePosition(text)
		if err != nil {
			return
		}
		if again, err := ParsePosition(p.String()); err != nil || !maps.Equal(p, again) {
			t.Errorf("%q: %v, then %v, %v", text, p, again, err)
		}
	})
}

func TestAddresses(t *testing.T) {
	for _, good := range []string{"https://example.com/a?b=c", "http://127.0.0.1:8080"} {
		if err := checkAddress(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "example.com", "ftp://example.com", "https://", "https://user:secret@example.com", "https://a/#b", "http://%zz",
	} {
		if err := checkAddress(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
