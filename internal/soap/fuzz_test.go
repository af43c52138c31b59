package soap_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"callbackd/internal/soap"
)

// FuzzScanner holds for every document: the scanner does not panic; it allocates no more than a small multiple of the document; its tokens
// follow one another; a refusal has a class and a place and is short; what it takes reads the same when its tokens are written down and
// read again, and reads the same as with encoding/xml, the documented differences aside.
func FuzzScanner(f *testing.F) {
	for _, raw := range corpus() {
		if document, _, err := soap.Decode(raw, "", soap.Limits{}); err == nil {
			f.Add(document)
		}
	}
	for _, raw := range ruleDocuments() {
		f.Add(string(raw))
	}
	f.Fuzz(func(t *testing.T, document string) {
		if !utf8.ValidString(document) {
			return // Decode does not let it pass
		}
		var s soap.Scanner
		var err error
		used := allocated(t, func() { err = follow(&s, document) })
		if most := uint64(2*len(document) + 64<<10); used > most {
			t.Errorf("%d bytes allocated for %d", used, len(document))
		}
		if err != nil {
			checkRefusal(t, err, document)
			return
		}
		written, err := rewrite(document)
		if err != nil {
			t.Fatal(err)
		}
		want := mustTake(t, document)
		// Each name has a declaration of its own now, and each character is up to nine bytes long.
		got, err := takeWithin(written, soap.Limits{Attributes: 130, Namespaces: 10_000, Text: 9 << 20})
		if err != nil || got != want {
			t.Errorf("read again, got\n%s%v\nwant\n%swritten\n%s", got, err, want, written)
		}
		if _, err := sameTokens(document); err != nil {
			t.Error(err)
		}
	})
}

// follow reads a document and checks that each token begins where the one before it ended, or after.
func follow(s *soap.Scanner, document string) error {
	s.Reset(document, soap.Limits{})
	last, depth := 0, 0
	for {
		token, err := s.Next()
		if err != nil {
			return err
		}
		from, to := s.Span()
		if from < last || to < from || to > len(document) {
			return fmt.Errorf("token at %d to %d after %d", from, to, last)
		}
		last = to
		switch token {
		case soap.EOF:
			if to != len(document) || depth != 0 {
				return fmt.Errorf("the end is at %d of %d, at depth %d", to, len(document), depth)
			}
			return nil
		case soap.Start:
			depth++
		case soap.End:
			depth--
		}
		if depth != s.Depth() {
			return fmt.Errorf("depth %d, want %d", s.Depth(), depth)
		}
	}
}

// checkRefusal: a refusal has one class and a place within the document, and fits into a fault.
func checkRefusal(t *testing.T, err error, document string) {
	t.Helper()
	classes := 0
	for _, class := range []error{soap.ErrMalformed, soap.ErrEncoding, soap.ErrLimit, soap.ErrMustUnderstand, soap.ErrVersionMismatch} {
		if errors.Is(err, class) {
			classes++
		}
	}
	var e *soap.Error
	if classes != 1 || !errors.As(err, &e) {
		t.Fatalf("%v has %d classes", err, classes)
	}
	if text := err.Error(); len(text) > 1200 || !utf8.ValidString(text) {
		t.Errorf("a refusal of %d bytes: %s", len(text), text)
	}
	if e.Line < 0 || e.Column < 0 || e.Line > 1+len(document) || e.Column > 1+len(document) || (e.Line == 0) != (e.Column == 0) {
		t.Errorf("line %d, column %d of %d bytes", e.Line, e.Column, len(document))
	}
}

// rewrite writes down the tokens of a document in another way: prefixes of its own, no CDATA, every special character a reference.
func rewrite(document string) (string, error) {
	var s soap.Scanner
	s.Reset(document, soap.Limits{})
	var b strings.Builder
	name := func(n soap.Name, prefix string) string { // and declare after it
		switch n.Space {
		case "":
			return n.Local
		case "http://www.w3.org/XML/1998/namespace":
			return "xml:" + n.Local
		}
		return prefix + ":" + n.Local
	}
	declare := func(n soap.Name, prefix string) {
		if full := name(n, prefix); strings.HasPrefix(full, prefix+":") {
			fmt.Fprintf(&b, " xmlns:%s='%s'", prefix, references(n.Space))
		}
	}
	for {
		token, err := s.Next()
		if err != nil {
			return "", err
		}
		switch token {
		case soap.EOF:
			return b.String(), nil
		case soap.Start:
			b.WriteString("<" + name(s.Name(), "e"))
			declare(s.Name(), "e")
			for i, a := range s.Attrs() {
				prefix := fmt.Sprintf("a%d", i)
				fmt.Fprintf(&b, " %s='%s'", name(a.Name, prefix), references(a.Value))
				declare(a.Name, prefix)
			}
			b.WriteString(">")
		case soap.End:
			b.WriteString("</" + name(s.Name(), "e") + ">")
		case soap.Text:
			b.WriteString(references(s.Text()))
		}
	}
}

func references(value string) string {
	var b strings.Builder
	for _, r := range value {
		if r < utf8.RuneSelf && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9') {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "&#x%X;", r)
		}
	}
	return b.String()
}

// FuzzDecode holds for whatever arrives: no panic, bounded memory, a document in valid UTF-8 or a refusal, and the same document when it
// arrives in UTF-16.
func FuzzDecode(f *testing.F) {
	for _, raw := range corpus() {
		f.Add(raw, "")
		f.Add(raw, "iso-8859-1")
	}
	for _, charset := range []string{"utf-8", "UTF8", "us-ascii", "windows-1252", "utf-16", "utf-16le", "Shift_JIS", "\xff"} {
		f.Add([]byte("<?xml version='1.0' encoding='"+charset+"'?><a>\x80\xe9é</a>"), charset)
	}
	f.Fuzz(func(t *testing.T, raw []byte, charset string) {
		var document, encoding string
		var err error
		used := allocated(t, func() { document, encoding, err = soap.Decode(raw, charset, soap.Limits{}) })
		if most := uint64(4*len(raw) + 4*len(charset) + 64<<10); used > most {
			t.Errorf("%d bytes allocated for %d", used, len(raw))
		}
		if err != nil {
			checkRefusal(t, err, string(raw))
			return
		}
		if !utf8.ValidString(document) || len(document) > 3*len(raw) || encoding == "" {
			t.Fatalf("%d bytes of %q from %d: %q", len(document), encoding, len(raw), document)
		}
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			if strings.HasPrefix(document, "\x00") && order == binary.AppendByteOrder(binary.LittleEndian) {
				continue // with its mark in front this is the mark of UTF-32
			}
			again, _, err := soap.Decode(utf16Of("\ufeff"+document, order), "utf-16", soap.Limits{})
			if err != nil || again != document {
				t.Errorf("from UTF-16: got %q, %v, want %q", again, err, document)
			}
		}
	})
}

// FuzzEnvelope holds for whatever arrives: no panic; a message that passes is well-formed, has one payload, and its secrets lie in its
// Header, one after the other; a message that does not pass tells why.
func FuzzEnvelope(f *testing.F) {
	for _, raw := range corpus() {
		f.Add(raw)
	}
	for _, v := range versions {
		f.Add([]byte(envelope(v.version, "<s:Header><Password>a</Password><h s:mustUnderstand='1' s:actor='u' s:role='v'/></s:Header><s:Body><a/></s:Body>")))
		f.Add([]byte(envelope(v.version, "<s:Body><a/><!--b--></s:Body>") + "<?c?>"))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		document, _, err := soap.Decode(raw, "", soap.Limits{})
		if err != nil {
			checkRefusal(t, err, string(raw))
			return
		}
		env, err := openAndClose(document)
		if err != nil {
			checkRefusal(t, err, document)
			return
		}
		if err := scan(document, soap.Limits{}); err != nil {
			t.Fatalf("a message passes that is not well-formed: %v", err)
		}
		last := 0
		for _, secret := range env.Secrets {
			if secret[0] < last || secret[1] < secret[0] || secret[1] > len(document) {
				t.Fatalf("secrets %v in %d bytes", env.Secrets, len(document))
			}
			last = secret[1]
		}
		if env.Version != soap.Bare {
			if told := mustTake(t, document); strings.Count(told, "Body\n") < 2 || !strings.HasPrefix(told, "start {http://") {
				t.Errorf("version %v without a Body: %s", env.Version, told)
			}
		}
	})
}
