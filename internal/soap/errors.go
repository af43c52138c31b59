package soap

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
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

func limitError(most int, unit string) *Error {
	return &Error{Class: ErrLimit, Msg: fmt.Sprintf("more than %d %s", most, unit)}
}

// quoteName is a name taken from the document as it goes into a message.
func quoteName(s string) string { return strconv.Quote(shorten(s)) }

// shorten bounds a name for a message, without cutting a character in two.
func shorten(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) { // an encoding's label may be anything
		cut--
	}
	return s[:cut] + "..."
}
