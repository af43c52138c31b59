package soap

import (
	"strings"
	"unicode/utf8"
)

// chars reads character data up to the next markup.
func (s *Scanner) chars() (Token, error) {
	if err := s.count(); err != nil {
		return EOF, err
	}
	start, replace := s.pos, false
	i := start
	for i < len(s.doc) {
		c := s.doc[i]
		if class[c]&plainText != 0 {
			i++
			continue
		}
		if c == '<' {
			break
		}
		switch {
		case c == '&':
			width, err := s.reference(i)
			if err != nil {
				return EOF, err
			}
			replace = true
			i += width
		case c == '\r':
			replace = true
			i++
		case c == ']':
			if strings.HasPrefix(s.doc[i:], "]]>") {
				return EOF, s.errorf(i, "]]> within text")
			}
			i++
		case s.forbidden(i):
			return EOF, s.errorf(i, "character %s is not allowed in XML", s.char(i))
		default:
			i++
		}
	}
	if i-start > s.limits.Text {
		return EOF, s.limitErrorf(start, s.limits.Text, "bytes in one text")
	}
	s.pos = i
	s.text = s.doc[start:i]
	if replace {
		s.text = unescape(s.text, false)
	}
	return Text, nil
}

// attributeValue reads "value" or 'value'.
func (s *Scanner) attributeValue() (string, error) {
	if s.pos == len(s.doc) || s.doc[s.pos] != '"' && s.doc[s.pos] != '\'' {
		return "", s.errorf(s.pos, "an attribute value must be quoted")
	}
	quote := s.doc[s.pos]
	start, replace := s.pos+1, false
	for i := start; i < len(s.doc); {
		c := s.doc[i]
		if class[c]&plainValue != 0 {
			i++
			continue
		}
		if c == quote {
			if i-start > s.limits.Text {
				return "", s.limitErrorf(start, s.limits.Text, "bytes in one text")
			}
			s.pos = i + 1
			if replace {
				return unescape(s.doc[start:i], true), nil
			}
			return s.doc[start:i], nil
		}
		switch {
		case c == '<':
			return "", s.errorf(i, "'<' within an attribute value")
		case c == '&':
			width, err := s.reference(i)
			if err != nil {
				return "", err
			}
			replace = true
			i += width
		case c == '\t' || c == '\n' || c == '\r':
			replace = true
			i++
		case class[c]&plainText == 0 && c != ']' && s.forbidden(i):
			return "", s.errorf(i, "character %s is not allowed in XML", s.char(i))
		default:
			i++
		}
	}
	return "", s.errorf(start-1, "the document ends within an attribute value")
}

// reference checks the reference at i and returns its length. Its errors do not quote what follows the '&': that may be a password
// whose sender forgot to escape it.
func (s *Scanner) reference(i int) (int, error) {
	name, _, found := strings.Cut(s.doc[i+1:], ";")
	if found {
		if _, ok := referenced(name); ok {
			return len("&") + len(name) + len(";"), nil
		}
		if strings.HasPrefix(name, "#") {
			return 0, s.errorf(i, "a character reference to no character that XML allows")
		}
		if isName(name) {
			return 0, s.errorf(i, "an entity other than the predefined five: no DTD is read")
		}
	}
	return 0, s.errorf(i, "'&' that begins no reference: write &amp;")
}

// isName reports whether s is a Name of XML, colons aside.
func isName(s string) bool {
	for i, r := range s {
		if !isNameStart(r) && (i == 0 || !isNameChar(r)) {
			return false
		}
	}
	return s != ""
}

// referenced is the character that a reference without & and ; stands for.
func referenced(name string) (rune, bool) {
	switch name {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	base, digits := rune(10), ""
	switch {
	case strings.HasPrefix(name, "#x"):
		base, digits = 16, name[2:]
	case strings.HasPrefix(name, "#"):
		digits = name[1:]
	}
	if digits == "" {
		return 0, false
	}
	r := rune(0)
	for _, c := range digits {
		d := rune(99)
		switch {
		case c >= '0' && c <= '9':
			d = c - '0'
		case c >= 'a' && c <= 'f':
			d = c - 'a' + 10
		case c >= 'A' && c <= 'F':
			d = c - 'A' + 10
		}
		if d >= base {
			return 0, false
		}
		if r = r*base + d; r > utf8.MaxRune {
			return 0, false
		}
	}
	return r, isChar(r)
}

// unescape replaces references and line ends of a checked text; in an attribute value every literal white space becomes a
// blank.
func unescape(s string, attribute bool) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '&':
			end := strings.IndexByte(s[i:], ';')
			r, _ := referenced(s[i+1 : i+end])
			b.WriteRune(r)
			i += end + 1
		case c == '\r':
			if i+1 < len(s) && s[i+1] == '\n' {
				i++
			}
			if attribute {
				b.WriteByte(' ')
			} else {
				b.WriteByte('\n')
			}
			i++
		case attribute && (c == '\n' || c == '\t'):
			b.WriteByte(' ')
			i++
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String()
}
