package thingspace_test

import (
	"bytes"
	"reflect"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"
)

// respell writes a blank into every tag of a message, before its end. Nothing is said differently by that, and no short cut takes such a tag.
func respell(t testing.TB, stored []byte) []byte {
	t.Helper()
	var s soap.Scanner
	var respelt []byte
	at := 0
	s.Reset(string(stored), soap.Limits{})
	for {
		token, err := s.Next()
		if err != nil {
			t.Fatalf("the stored bytes do not scan: %v", err)
		}
		from, to := s.Span()
		switch {
		case token == soap.EOF:
			return append(respelt, stored[at:]...)
		case token == soap.Text || from == to:
			continue
		}
		end := to - len(">")
		if stored[end-1] == '/' {
			end--
		}
		respelt = append(append(respelt, stored[at:end]...), ' ')
		at = end
	}
}

// checkSpelling holds a message, of which the decoder reads what is plain by short cuts, against the same one without anything plain in it.
func checkSpelling(t testing.TB, stored []byte) {
	t.Helper()
	read := func(document []byte) *thingspace.Message {
		m, err := thingspace.Read(bytes.Clone(document), thingspace.ReadOptions{Charset: "utf-8", KeepExtra: true, Key: true, Violations: 1000})
		if err != nil {
			t.Fatalf("the stored bytes do not read: %v\n%s", err, document)
		}
		for i := range m.Violations {
			m.Violations[i].Line, m.Violations[i].Column = 0, 0
		}
		return m
	}
	long := respell(t, stored)
	got, want := read(stored), read(long)
	if !reflect.DeepEqual(got.Callback, want.Callback) || got.Username != want.Username || got.Password != want.Password ||
		!reflect.DeepEqual(got.Extensions, want.Extensions) || got.ExtensionCount != want.ExtensionCount {
		t.Errorf("by short cuts it reads otherwise:\n%+v\n%+v\n%s", got, want, stored)
	}
	if !reflect.DeepEqual(got.Violations, want.Violations) {
		t.Errorf("by short cuts it violates otherwise: %v; without: %v\n%s", got.Violations, want.Violations, stored)
	}
	if got.Key(callback.DeviceUsage, "main", false) != want.Key(callback.DeviceUsage, "main", false) {
		t.Errorf("by short cuts its key is another\n%s", stored)
	}
}
