package thingspace_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what the reader makes of the corpus into it; read the difference before you commit it")

// secret is the password of every message in the corpus.
const secret = "s3cret-Pa55"

// corpusCase is one message of testdata/corpus. The comment of its archive is the rule it stands for, and may say:
//
//	service: NAME   the listener that it arrives at
//	as: FORM        the form of the bytes: see inForm
//	charset: NAME   the charset parameter of the Content-Type
//
// The archive holds message.xml and what is expected of it: refusal, or facts, callback.json, violations, extensions and stored.xml.
type corpusCase struct {
	name, path             string
	service, form, charset string
	archive                *txtar.Archive
	wire                   []byte
}

func corpus(t testing.TB) []corpusCase {
	t.Helper()
	paths, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil || len(paths) < 120 {
		t.Fatalf("the corpus has %d cases: %v", len(paths), err)
	}
	var list []corpusCase
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(archive.Files) == 0 || archive.Files[0].Name != "message.xml" {
			t.Fatalf("%s does not begin with message.xml", path)
		}
		c := corpusCase{name: strings.TrimSuffix(filepath.Base(path), ".txtar"), path: path, archive: archive}
		for line := range strings.Lines(string(archive.Comment)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch key {
			case "service":
				c.service = value
			case "as":
				c.form = value
			case "charset":
				c.charset = value
			}
		}
		if c.wire, err = inForm(string(archive.Files[0].Data), c.form); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		list = append(list, c)
	}
	return list
}

func (c *corpusCase) read(keepExtra bool) (*thingspace.Message, error) {
	return thingspace.Read(bytes.Clone(c.wire), thingspace.ReadOptions{Charset: c.charset, KeepExtra: keepExtra})
}

// inForm writes a text in the form that a case asks for.
func inForm(text, form string) ([]byte, error) {
	units := func(put func([]byte, uint16) []byte, b []byte) []byte {
		for _, u := range utf16.Encode([]rune(text)) {
			b = put(b, u)
		}
		return b
	}
	little := func(b []byte, u uint16) []byte { return append(b, byte(u), byte(u>>8)) }
	switch form {
	case "":
		return []byte(text), nil
	case "utf-8-bom":
		return []byte("\ufeff" + text), nil
	case "utf-16le":
		return units(little, []byte{0xff, 0xfe}), nil
	case "utf-16le-bare":
		return units(little, nil), nil
	case "utf-16be":
		return units(func(b []byte, u uint16) []byte { return append(b, byte(u>>8), byte(u)) }, []byte{0xfe, 0xff}), nil
	case "utf-32le":
		b := []byte{0xff, 0xfe, 0, 0}
		for _, r := range text {
			b = append(b, byte(r), byte(r>>8), byte(r>>16), 0)
		}
		return b, nil
	case "iso-8859-1", "windows-1252":
		return singleByte(text)
	case "crlf":
		return []byte(strings.ReplaceAll(text, "\n", "\r\n")), nil
	case "escaped":
		return regexp.MustCompile(`\\x[0-9a-f]{2}`).ReplaceAllFunc([]byte(text), func(escape []byte) []byte {
			c, _ := strconv.ParseUint(string(escape[2:]), 16, 8)
			return []byte{byte(c)}
		}), nil
	}
	return nil, fmt.Errorf("unknown form %q", form)
}

func singleByte(text string) ([]byte, error) {
	var b []byte
	for _, r := range text {
		switch {
		case r <= 0xff:
			b = append(b, byte(r))
		case r == '€':
			b = append(b, 0x80)
		case r == '–':
			b = append(b, 0x96)
		default:
			return nil, fmt.Errorf("no byte for %q", r)
		}
	}
	return b, nil
}

var validator = sync.OnceValues(thingspace.NewSecondOpinion)

func validate(t testing.TB, m *thingspace.Message) []thingspace.Violation {
	t.Helper()
	v, err := validator()
	if err != nil {
		t.Fatal(err)
	}
	opinion, err := v.Validate(t.Context(), m)
	if err != nil {
		t.Fatalf("Validate: %v", err)
	}
	if (len(opinion) > 0) != (len(m.Violations) > 0) {
		t.Errorf("the decoder says %v, the second opinion is %v\n%s", m.Violations, opinion, thingspace.Published(m))
	}
	return m.Violations
}

var classes = []struct {
	name string
	err  error
}{
	{"malformed", soap.ErrMalformed}, {"encoding", soap.ErrEncoding}, {"limit", soap.ErrLimit},
	{"mustUnderstand", soap.ErrMustUnderstand}, {"version", soap.ErrVersionMismatch},
}

// refusal names the class of a refusal, which is exactly one.
func refusal(t testing.TB, err error) string {
	t.Helper()
	var names []string
	for _, c := range classes {
		if errors.Is(err, c.err) {
			names = append(names, c.name)
		}
	}
	if len(names) != 1 {
		t.Errorf("refusal %v is of classes %v", err, names)
	}
	return strings.Join(names, " ")
}

// outcome is what the reader makes of a case, as files.
func (c *corpusCase) outcome(t *testing.T) (files []txtar.File) {
	add := func(name, text string) { files = append(files, txtar.File{Name: name, Data: []byte(text)}) }
	m, err := c.read(true)
	if err != nil {
		add("refusal", fmt.Sprintf("%s: %v\n", refusal(t, err), err))
		return files
	}
	add("facts", c.facts(m))
	add("callback.json", string(indented(t, m.Callback)))
	if violations := validate(t, m); len(violations) > 0 {
		var text strings.Builder
		for _, v := range violations {
			fmt.Fprintf(&text, "%d:%d %s %s: %s\n", v.Line, v.Column, v.Rule, v.Path, v.Msg)
		}
		add("violations", text.String())
	}
	if m.ExtensionCount > 0 {
		add("extensions", fmt.Sprintf("%d in all\n%s\n", m.ExtensionCount, strings.Join(m.Extensions, "\n")))
	}
	if strings.HasPrefix(c.name, "password-") || c.form != "" && c.form != "crlf" {
		add("stored.xml", string(m.Stored()))
	}
	return files
}

func (c *corpusCase) facts(m *thingspace.Message) string {
	facts := fmt.Sprintf("%s in SOAP %s as %s from %q", m.Root, m.SOAP, m.Encoding, m.Username)
	if info, ok := callback.Lookup(c.service); ok && !info.Carries(m.Callback.Kind) {
		facts += ", the payload of another service"
	}
	if m.Key(callback.Service(c.service), "main", false).Repeat {
		facts += ", never a duplicate"
	}
	return facts + "\n"
}

func indented(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

func TestCorpus(t *testing.T) {
	t.Parallel()
	for _, c := range corpus(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, known := callback.Lookup(c.service); c.service != "" && !known {
				t.Fatalf("service %q is not in the catalogue", c.service)
			}
			want, err := os.ReadFile(c.path)
			if err != nil {
				t.Fatal(err)
			}
			got := txtar.Format(&txtar.Archive{Comment: c.archive.Comment, Files: append(c.archive.Files[:1:1], c.outcome(t)...)})
			if bytes.Equal(got, want) {
				return
			}
			if !*update {
				t.Errorf("got\n%s\nwant\n%s", got, want)
				return
			}
			if err := os.WriteFile(c.path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Whatever a message is, these hold of it.
func TestCorpusProperties(t *testing.T) {
	t.Parallel()
	for _, c := range corpus(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			checkMessage(t, c.wire, c.charset)
			checkDiscreet(t, c.wire, c.charset)
		})
	}
}

// checkMessage checks what holds of every message: the ways to read it agree, and to compute its key; the stored bytes decode to the same callback
// under the same key, they hold no password, and what is told of it is bounded and quotes nothing.
func checkMessage(t testing.TB, wire []byte, charset string) {
	t.Helper()
	m, err := thingspace.Read(bytes.Clone(wire), thingspace.ReadOptions{Charset: charset})
	full, fullErr := thingspace.Read(bytes.Clone(wire), thingspace.ReadOptions{Charset: charset, KeepExtra: true, Key: true})
	if fmt.Sprint(err) != fmt.Sprint(fullErr) {
		t.Fatalf("without trees: %v; with: %v", err, fullErr)
	}
	if err != nil {
		refusal(t, err)
		return
	}
	key := func(m *thingspace.Message) thingspace.Key { return m.Key(callback.DeviceUsage, "main", false) }
	if m.Callback.Kind != full.Callback.Kind || key(m) != key(full) || !slices.Equal(m.Extensions, full.Extensions) ||
		m.ExtensionCount != full.ExtensionCount {
		t.Errorf("reading without trees differs: %v %v %v; %v %v %v", m.Callback.Kind, key(m), m.Extensions, full.Callback.Kind, key(full), full.Extensions)
	}
	violations := validate(t, m)
	if fullViolations := validate(t, full); !slices.Equal(violations, fullViolations) {
		t.Errorf("violations without trees: %v; with: %v", violations, fullViolations)
	}
	checkTold(t, m, violations)
	checkStored(t, full, key)
	checkSpelling(t, full.Stored())
}

func checkStored(t testing.TB, m *thingspace.Message, key func(*thingspace.Message) thingspace.Key) {
	t.Helper()
	stored := m.Stored()
	again, err := thingspace.ReadStored(bytes.Clone(stored), soap.Limits{})
	if err != nil {
		t.Fatalf("the stored bytes do not read: %v\n%s", err, stored)
	}
	if !reflect.DeepEqual(again.Callback, m.Callback) {
		t.Errorf("the stored bytes decode to %s\nthe message to %s", indented(t, again.Callback), indented(t, m.Callback))
	}
	if key(again) != key(m) {
		t.Errorf("the stored bytes have another key\n%s", stored)
	}
	if !bytes.Equal(again.Stored(), stored) {
		t.Errorf("storing the stored bytes changes them:\n%s\n%s", stored, again.Stored())
	}
	// Whoever exports the bytes reads them without being told their encoding.
	if _, err := thingspace.Read(bytes.Clone(stored), thingspace.ReadOptions{Limits: soap.Limits{Bytes: 1 << 30}}); err != nil {
		t.Errorf("the stored bytes do not read by their own declaration: %v\n%s", err, stored)
	}
	if again.Password != "" && again.Password != thingspace.Mask {
		t.Errorf("the stored password is %q", again.Password)
	}
	for _, found := range passwords(t, string(stored)) {
		if found != thingspace.Mask {
			t.Errorf("the stored bytes hold a password: %q\n%s", found, stored)
		}
	}
}

// checkDiscreet checks that nothing that is stored or told of a message of the corpus holds the password, in so many letters.
func checkDiscreet(t testing.TB, wire []byte, charset string) {
	t.Helper()
	m, err := thingspace.Read(bytes.Clone(wire), thingspace.ReadOptions{Charset: charset, KeepExtra: true})
	told := fmt.Sprint(err)
	if err == nil {
		told = fmt.Sprint(string(m.Stored()), string(indented(t, m.Callback)), validate(t, m), m.Extensions)
	}
	if strings.Contains(told, secret) {
		t.Errorf("the password is still there:\n%s", told)
	}
}

// passwords lists what stands in elements and attributes named Password, by a walk of its own.
func passwords(t testing.TB, document string) (list []string) {
	t.Helper()
	var s soap.Scanner
	s.Reset(document, soap.Limits{Bytes: 1 << 30, Text: 1 << 30, Tokens: 1 << 30})
	within, text := 0, ""
	for {
		token, err := s.Next()
		if err != nil {
			t.Fatalf("scan: %v", err)
		}
		switch token {
		case soap.EOF:
			return list
		case soap.Start:
			for _, a := range s.Attrs() {
				if strings.EqualFold(a.Name.Local, "Password") && a.Value != "" {
					list = append(list, a.Value)
				}
			}
			if within > 0 {
				text += "<" + s.Name().Local + ">"
			} else if strings.EqualFold(s.Name().Local, "Password") {
				within, text = s.Depth(), ""
			}
		case soap.Text:
			text += s.Text()
		case soap.End:
			if within == s.Depth()+1 {
				if within = 0; text != "" {
					list = append(list, text)
				}
			}
		}
	}
}

// rules are the kinds of violation. Any other would say that the validator could not read the message.
var rules = []string{"root", "element", "content", "text", "nil", "facet", "type", "attribute"}

// checkTold checks what goes into logs and facts.
func checkTold(t testing.TB, m *thingspace.Message, violations []thingspace.Violation) {
	t.Helper()
	if len(violations) > thingspace.MaxViolations || len(m.Extensions) > thingspace.MaxExtensions || m.ExtensionCount < len(m.Extensions) {
		t.Errorf("%d violations, %d extensions of %d", len(violations), len(m.Extensions), m.ExtensionCount)
	}
	lines := strings.Count(thingspace.Published(m), "\n") + 1
	const longest = 512
	for _, v := range violations {
		if v.Path == "" || v.Line < 1 || v.Line > lines || v.Column < 1 || v.Rule == "" || v.Msg == "" {
			t.Errorf("a violation lacks its place or reason: %+v", v)
		}
		if !slices.Contains(rules, v.Rule) {
			t.Errorf("the validator cannot judge what the reader takes: %v", v)
		}
		if text := v.String(); len(text) > 2*longest || !utf8.ValidString(text) {
			t.Errorf("a violation is too long or garbled: %q", text)
		}
		if name, unexpected := strings.CutPrefix(v.Msg, "unexpected child element "); unexpected && len(name) < 100 {
			name = name[strings.IndexByte(name, '}')+1:]
			line := []rune(strings.Split(thingspace.Published(m), "\n")[v.Line-1])
			if at := string(line[v.Column-1:]); at[0] != '<' || !strings.Contains(at[:min(len(at), 200)], name) {
				t.Errorf("%v: there stands %q", v, at)
			}
		}
	}
	for _, e := range m.Extensions {
		if len(e) > longest || !utf8.ValidString(e) {
			t.Errorf("an extension is too long or garbled: %q", e)
		}
	}
}
