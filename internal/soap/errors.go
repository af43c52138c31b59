package soap

import (
	"errors"
	"fmt"
)

// The classes of refusal. Every error of this package wraps exactly one of them.
var (
	ErrMalformed       = errors.New("not a well-formed SOAP message")
	ErrEncoding        = errors.New("unsupported or contradictory character encoding")
	ErrLimit           = errors.New("message exceeds a limit")
	ErrMustUnderstand  = errors.New("mandatory header block not understood")
	ErrVersionMismatch = errors.New("unknown envelope namespace")
)

// Error is a refusal with its place. It never quotes the content of the document, only names of elements and attributes.
type Error struct {
	Class  error // one of the sentinels above
	Line   int   // 1-based; 0 when the place is the whole document
	Column int   // 1-based, in characters
	Path   string
	Msg    string
}

func (e *Error) Error() string {
	s := e.Msg
	if e.Line > 0 {
		s = fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, s)
	}
	if e.Path != "" {
		s += " (in " + e.Path + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Class }

// quoteName bounds a name taken from the document before it goes into a message.
func quoteName(s string) string {
	const most = 64
	if len(s) > most {
		s = s[:most] + "..."
	}
	return fmt.Sprintf("%q", s)
}
