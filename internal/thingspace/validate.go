package thingspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"callbackd/schemas"

	"github.com/jacoelho/xsd"
	"github.com/jacoelho/xsd/xsderrors"
)

// Violation is a place where a message breaks what Verizon published. It names elements and never quotes their content.
type Violation struct {
	Path   string `json:"path"` // from the payload's root, such as CallbackRequest/Data/CarrierService
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Rule   string `json:"rule"` // a stable word for the kind of violation
	Msg    string `json:"msg"`
}

func (v Violation) String() string {
	return fmt.Sprintf("line %d, column %d: %s: %s", v.Line, v.Column, v.Path, v.Msg)
}

// MaxViolations bounds the list of violations of one message.
const MaxViolations = 16

// Validator checks messages against the schemas of package schemas. It is safe for concurrent use.
//
// It is the only place that knows the validating library.
type Validator struct {
	engine   *xsd.Engine
	sessions sync.Pool
}

// NewValidator compiles the schemas.
func NewValidator() (*Validator, error) {
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
	v := &Validator{engine: engine}
	// The reader has bounded the message before, so these only have to be no tighter than its limits.
	options := xsd.ValidateOptions{MaxErrors: MaxViolations, MaxInstanceDepth: 1 << 12, MaxInstanceAttributes: 1 << 12}
	if _, err := engine.NewSession(options); err != nil {
		return nil, fmt.Errorf("prepare validation: %w", err)
	}
	v.sessions.New = func() any {
		session, _ := engine.NewSession(options) // the same options passed above
		return session
	}
	return v, nil
}

// Validate lists the violations of m, at most [MaxViolations]. Extensions are none.
func (v *Validator) Validate(ctx context.Context, m *Message) ([]Violation, error) {
	var violations []Violation
	if m.Root != "CallbackRequest" && m.Root != "SmsCallbackRequest" {
		violations = append(violations, Violation{Path: m.Root, Rule: "root", Msg: "the payload is neither CallbackRequest nor SmsCallbackRequest"})
	}
	session := v.sessions.Get().(*xsd.Session)
	defer v.sessions.Put(session)
	err := session.Validate(ctx, strings.NewReader(m.published()))
	if err == nil {
		return violations, nil
	}
	for _, e := range flatten(err) {
		var x *xsderrors.Error
		if !errors.As(e, &x) || x.Category != xsderrors.CategoryValidation && x.Category != xsderrors.CategoryUnsupported {
			return nil, fmt.Errorf("validate: %w", err)
		}
		if x.Code == xsderrors.CodeValidationRoot && len(violations) > 0 {
			continue // said already
		}
		if len(violations) < MaxViolations {
			violations = append(violations, violation(x))
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

func violation(x *xsderrors.Error) Violation {
	path := x.Path
	if rest, ok := strings.CutPrefix(path, "/Envelope/Body"); ok && rest != "" {
		path = rest
	}
	v := Violation{Path: strings.TrimPrefix(path, "/"), Line: x.Line, Column: x.Column, Msg: x.Message}
	_, v.Rule, _ = strings.Cut(string(x.Code), ".")
	switch x.Code {
	case xsderrors.CodeValidationElement, xsderrors.CodeValidationContent, xsderrors.CodeValidationText,
		xsderrors.CodeValidationNil, xsderrors.CodeValidationRoot:
		// These messages hold names alone.
	case xsderrors.CodeValidationFacet, xsderrors.CodeValidationType:
		v.Msg = "the value is not of the published type"
	default:
		v.Msg = "the validator does not accept it: " + string(x.Code)
	}
	return v
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
