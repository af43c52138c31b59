package soap_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"weak"

	"callbackd/internal/soap"
)

// TestSpanAndDepth: the parts of a document that a caller cuts out or masks are delimited to the byte.
func TestSpanAndDepth(t *testing.T) {
	t.Parallel()
	const document = `<?xml version="1.0"?><!--c--><a b = "1"><!--d-->é&amp;<![CDATA[x]]><?p?><e f='2'/></a ><!--g-->`
	want := []string{
		`start 1 <a b = "1">`, `attribute b = "1"`,
		`text 1 é&amp;`, `text 1 <![CDATA[x]]>`,
		`start 2 <e f='2'/>`, `attribute f='2'`, `end 1 `,
		`end 0 </a >`,
	}
	var s soap.Scanner
	s.Reset(document, soap.Limits{})
	var got []string
	last := 0
	for {
		token, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		from, to := s.Span()
		if from < last || to < from {
			t.Errorf("span %d to %d after %d", from, to, last)
		}
		last = to
		if token == soap.EOF {
			if to != len(document) {
				t.Errorf("ends at %d of %d", to, len(document))
			}
			break
		}
		kind := map[soap.Token]string{soap.Start: "start", soap.End: "end", soap.Text: "text"}[token]
		got = append(got, fmt.Sprintf("%s %d %s", kind, s.Depth(), document[from:to]))
		if token != soap.Start {
			continue
		}
		for _, a := range s.Attrs() {
			got = append(got, "attribute "+document[a.From:a.To])
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if s.Document() != document {
		t.Error("Document is another")
	}
}

func TestNil(t *testing.T) {
	t.Parallel()
	for attributes, want := range map[string]bool{
		`x:nil="true"`: true, `x:nil="1"`: true, `x:nil=" true&#10;"`: true, `y="" x:nil="1"`: true,
		`x:nil="false"`: false, `x:nil="0"`: false, `x:nil="TRUE"`: false, `x:nil=""`: false, `nil="true"`: false, `x:Nil="true"`: false,
		`xmlns:x="u" x:nil="true"`: false, `xmlns:o="` + soap.XSI + `" o:nil="true"`: true, ``: false,
	} {
		var s soap.Scanner
		s.Reset(`<r xmlns:x="`+soap.XSI+`"><a `+attributes+`/></r>`, soap.Limits{})
		for range 2 {
			if _, err := s.Next(); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.Nil(); got != want {
			t.Errorf("<a %s/>: got %v, want %v", attributes, got, want)
		}
		if _, err := s.Next(); err != nil || s.Nil() {
			t.Errorf("<a %s/>: its end tag is nil: %v, %v", attributes, s.Nil(), err)
		}
	}
}

func TestErrorsStay(t *testing.T) {
	t.Parallel()
	var s soap.Scanner
	s.Reset("<a><b></a>", soap.Limits{})
	var first error
	for range 10 {
		token, err := s.Next()
		if err == nil {
			continue
		}
		if token != soap.EOF {
			t.Errorf("token %d beside an error", token)
		}
		if first == nil {
			first = err
		}
		if !errors.Is(err, first) {
			t.Errorf("got %v after %v", err, first)
		}
	}
	if first == nil {
		t.Error("no error")
	}
}

func TestEOFStays(t *testing.T) {
	t.Parallel()
	var s soap.Scanner
	s.Reset("<a/>", soap.Limits{})
	want := []soap.Token{soap.Start, soap.End, soap.EOF, soap.EOF}
	for i, token := range want {
		if got, err := s.Next(); err != nil || got != token {
			t.Fatalf("token %d: got %d, %v", i, got, err)
		}
	}
}

// TestResetForgets: a scanner that stopped anywhere in one document knows nothing of it in the next.
func TestResetForgets(t *testing.T) {
	t.Parallel()
	const before, after = `<a xmlns="u" xmlns:p="v" b="c"><d e="f"/>text</a>`, `<g h="i"><j/>k</g>`
	want := mustTake(t, after)
	for steps := range 8 {
		for _, document := range []string{before, before + "<", strings.Replace(before, "d e", "d <", 1)} {
			var s soap.Scanner
			s.Reset(document, soap.Limits{Depth: 3})
			for range steps {
				if _, err := s.Next(); err != nil {
					break
				}
			}
			s.Reset(after, soap.Limits{})
			var told []string
			for {
				token, err := s.Next()
				if err != nil {
					t.Fatalf("after %d tokens of %q: %v", steps, document, err)
				}
				if token == soap.EOF {
					break
				}
				switch token {
				case soap.Start:
					line := "start " + s.Name().String()
					for _, a := range s.Attrs() {
						line += fmt.Sprintf(" %s=%q", a.Name, a.Value)
					}
					told = append(told, line)
				case soap.End:
					told = append(told, "end "+s.Name().String())
				case soap.Text:
					told = append(told, fmt.Sprintf("text %q", s.Text()))
				}
			}
			if got := strings.Join(told, "\n") + "\n"; got != want {
				t.Errorf("after %d tokens of %q: got\n%swant\n%s", steps, document, got, want)
			}
		}
	}
	var s soap.Scanner
	s.Reset(before, soap.Limits{})
	if _, err := s.Next(); err != nil {
		t.Fatal(err)
	}
	s.Reset("<p:a/>", soap.Limits{})
	if _, err := s.Next(); !errors.Is(err, soap.ErrMalformed) {
		t.Errorf("a prefix of another document is declared: %v", err)
	}
}

// TestResetLetsGo: what a pooled scanner read last can be collected.
func TestResetLetsGo(t *testing.T) {
	var s soap.Scanner
	document := func() weak.Pointer[byte] {
		raw := []byte(strings.Repeat(" ", 1<<16) + message(1) + "<")
		text, _, err := soap.Decode(raw, "utf-8", soap.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		s.Reset(strings.TrimLeft(text, " "), soap.Limits{})
		for err == nil {
			_, err = s.Next() // to the error at the end, which stays
		}
		return weak.Make(&raw[0])
	}()
	if document.Value() == nil {
		t.Fatal("the document is gone while it is being read")
	}
	s.Reset("", soap.Limits{})
	runtime.GC()
	if document.Value() != nil {
		t.Error("the scanner keeps the document")
	}
	runtime.KeepAlive(&s)
}

func TestErrorfIsAtTheCurrentToken(t *testing.T) {
	t.Parallel()
	var s soap.Scanner
	s.Reset("<a>\n <b/></a>", soap.Limits{})
	for range 3 {
		if _, err := s.Next(); err != nil {
			t.Fatal(err)
		}
	}
	err := s.Errorf("%s is too many", "one")
	if want := "line 2, column 2: one is too many (in /a/b)"; err.Error() != want || !errors.Is(err, soap.ErrMalformed) {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestWhatRefusalsSay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		document, want string
		class          error
	}{
		{"<a><b></a>", "line 1, column 9: expected </b> (in /a/b)", soap.ErrMalformed},
		{"\xff", "line 1, column 1: byte 0xff is not part of a UTF-8 character", soap.ErrEncoding},
		{"\x00\x00\xfe\xff", "UTF-32 is not supported: send UTF-8", soap.ErrEncoding},
		{strings.Repeat("<a>", 65), "line 1, column 193: more than 64 levels of elements (in " + strings.Repeat("/a", 64) + ")", soap.ErrLimit},
	} {
		if err := read([]byte(c.document), ""); err == nil || err.Error() != c.want || !errors.Is(err, c.class) {
			t.Errorf("%.20q: got %v, want %s", c.document, err, c.want)
		}
	}
}
