package soap

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// forbidden reports whether the character that begins at i is one that XML excludes. The document is valid UTF-8, so among
// the characters beyond ASCII only U+FFFE and U+FFFF are.
func (s *Scanner) forbidden(i int) bool {
	c := s.doc[i]
	if c < ' ' {
		return c != '\t' && c != '\n' && c != '\r'
	}
	return c == 0xef && i+2 < len(s.doc) && s.doc[i+1] == 0xbf && s.doc[i+2] >= 0xbe
}

func (s *Scanner) char(i int) string {
	r, _ := utf8.DecodeRuneInString(s.doc[i:])
	return fmt.Sprintf("U+%04X", r)
}

// Position is the line and column of an offset in the document, both from 1, columns in characters.
func (s *Scanner) Position(offset int) (line, column int) { return position(s.doc[:offset]) }

// position counts a line end as XML does: a carriage return ends a line with or without a line feed after it.
func position(before string) (line, column int) {
	line = 1 + strings.Count(before, "\n") + strings.Count(before, "\r") - strings.Count(before, "\r\n")
	return line, 1 + utf8.RuneCountInString(before[strings.LastIndexAny(before, "\r\n")+1:])
}

// Path names the open elements, without prefixes. Where it would be too long for a message it ends in "/...".
func (s *Scanner) Path() string {
	const longest = 512
	var b strings.Builder
	for i := range s.open {
		name := shorten(s.nameOf(&s.open[i]).Local)
		if b.Len()+len(name) > longest {
			b.WriteString("/...")
			break
		}
		b.WriteByte('/')
		b.WriteString(name)
	}
	return b.String()
}

// Errorf is a refusal of the document as malformed, at the current token, for a reader that asks more than XML does.
func (s *Scanner) Errorf(format string, args ...any) error {
	return s.errorf(s.from, format, args...)
}

func (s *Scanner) errorf(offset int, format string, args ...any) error {
	return s.place(offset, &Error{Class: ErrMalformed, Msg: fmt.Sprintf(format, args...)})
}

func (s *Scanner) limitErrorf(offset, most int, unit string) error {
	return s.place(offset, limitError(most, unit))
}

// place completes e with where it stands.
func (s *Scanner) place(offset int, e *Error) *Error {
	e.Line, e.Column = s.Position(min(offset, len(s.doc)))
	e.Path = s.Path()
	return e
}
