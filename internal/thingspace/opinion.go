package thingspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"unicode/utf8"

	"callbackd/schemas"

	"github.com/jacoelho/xsd"
	"github.com/jacoelho/xsd/xsderrors"
)

// SecondOpinion checks messages against the schemas of package schemas by a library that shares nothing with the decoder. It is safe for
// concurrent use.
//
// It is the only place that knows the library.
type SecondOpinion struct {
	engine   *xsd.Engine
	sessions sync.Pool
}

// NewSecondOpinion compiles the schemas.
func NewSecondOpinion() (*SecondOpinion, error) {
	var sources []xsd.SchemaSource
	for _, name := range []string{schemas.Envelope11, schemas.Envelope12, schemas.Callback} {
		text, err := fs.ReadFile(schemas.FS, name)
		if err != nil {
			return nil, fmt.Errorf("read schema: %w", err)
		}
		sources = append(sources, xsd.Bytes(name, text))
	}
	engine, err := xsd.Compile(context.Background(), sources...)
	if err != nil {
		return nil, fmt.Errorf("compile schemas: %w", err)
	}
	v := &SecondOpinion{engine: engine}
	// The reader has bounded the message before, so these only have to be no tighter than its limits.
	const unbounded = 1 << 40
	options := xsd.ValidateOptions{
		MaxErrors: MaxViolations, MaxInstanceDepth: 1 << 12, MaxInstanceAttributes: 1 << 12,
		MaxInstanceTextBytes: unbounded, MaxInstanceTokenBytes: unbounded, MaxInstanceBytes: unbounded,
	}
	if _, err := engine.NewSession(options); err != nil {
		return nil, fmt.Errorf("prepare validation: %w", err)
	}
	v.sessions.New = func() any {
		session, _ := engine.NewSession(options) // the same options passed above
		return session
	}
	return v, nil
}

// Validate lists the violations of m, at most [MaxViolations]. Extensions are none. It fails only when ctx ends: a message MUST
// NOT be lost because the validator cannot judge it, so that is a violation too.
func (v *SecondOpinion) Validate(ctx context.Context, m *Message) ([]Violation, error) {
	if wrong := m.wrongRoot(); wrong != "" {
		return []Violation{m.atRoot("root", wrong)}, nil // the schema says nothing of such a payload
	}
	session := v.sessions.Get().(*xsd.Session)
	published := m.published()
	err := session.Validate(ctx, strings.NewReader(published))
	v.sessions.Put(session) // but not after a panic, which leaves it half-way
	if err == nil {
		return nil, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("validate: %w", err)
	}
	var violations []Violation
	for _, e := range flatten(err) {
		v := m.atRoot("validator", "the validator fails on this message")
		var x *xsderrors.Error
		if errors.As(e, &x) {
			v = violation(x, published)
		}
		if len(violations) < MaxViolations && !(len(violations) > 0 && v.repeats(violations[len(violations)-1])) {
			violations = append(violations, v)
		}
	}
	return violations, nil
}

func flatten(err error) []error {
	var list xsderrors.Errors
	if errors.As(err, &list) {
		return list
	}
	return []error{err}
}

// nilNotEmpty is the one message about xsi:nil that is told of the element's content.
const nilNotEmpty = "nilled element must be empty"

func violation(x *xsderrors.Error, published string) Violation {
	line := lineStart(published, x.Line)
	at := min(line+max(x.Column-1, 0), len(published)) // the validator counts columns in bytes
	path := x.Path
	if x.Code == xsderrors.CodeValidationNil && x.Message != nilNotEmpty && strings.HasPrefix(published[at:], "<") {
		// What is wrong with xsi:nil itself is reported at the start tag, before the path has the element.
		path += "/" + nameAt(published[at+1:])
	}
	if rest, ok := strings.CutPrefix(path, "/Envelope/Body"); ok && rest != "" {
		path = rest
	}
	v := Violation{
		Path: shorten(strings.TrimPrefix(path, "/"), longestName),
		Line: x.Line, Column: 1 + utf8.RuneCountInString(published[line:at]),
	}
	_, v.Rule, _ = strings.Cut(string(x.Code), ".")
	switch x.Code {
	case xsderrors.CodeValidationElement, xsderrors.CodeValidationContent, xsderrors.CodeValidationText,
		xsderrors.CodeValidationNil, xsderrors.CodeValidationRoot:
		// These messages hold names alone.
		v.Msg = shorten(x.Message, 2*longestName)
	case xsderrors.CodeValidationFacet, xsderrors.CodeValidationType:
		v.Msg = "the value is not of the published type"
	default:
		v.Msg = "the validator does not accept it: " + string(x.Code)
	}
	return v
}

// repeats reports whether v says what was said before: every tag and every text within a nil element breaks the same rule.
func (v Violation) repeats(before Violation) bool {
	return v.Rule == "nil" && v.Rule == before.Rule && v.Path == before.Path && v.Msg == before.Msg
}

// lineStart is where a line, counted from 1, begins in text.
func lineStart(text string, line int) int {
	at := 0
	for ; line > 1; line-- {
		next := strings.IndexByte(text[at:], '\n')
		if next < 0 {
			return at
		}
		at += next + 1
	}
	return at
}

// nameAt is the local name of the start tag whose name text begins with.
func nameAt(text string) string {
	name := text[:max(strings.IndexAny(text, " \t\r\n/>"), 0)]
	return name[strings.IndexByte(name, ':')+1:]
}

// published is the document as far as the schema is to judge it: every cut is blank, so that lines and columns stay.
func (m *Message) published() string {
	cuts := m.cuts
	if strings.HasPrefix(m.document, "<?xml") {
		// The declaration may name the encoding that the document arrived in, and it is UTF-8 now.
		end := strings.Index(m.document, "?>") + len("?>")
		cuts = append([]span{{0, end}}, cuts...)
	}
	if len(cuts) == 0 {
		return m.document
	}
	var b strings.Builder
	b.Grow(len(m.document))
	at := 0
	for _, c := range cuts {
		b.WriteString(m.document[at:c.from])
		for _, r := range m.document[c.from:c.to] {
			if r != '\n' {
				r = ' '
			}
			b.WriteByte(byte(r))
		}
		at = c.to
	}
	b.WriteString(m.document[at:])
	return b.String()
}
