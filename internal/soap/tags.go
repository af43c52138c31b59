package soap

import (
	"strings"
	"unicode/utf8"
)

// startTag reads <name attr="value" ...> or <name .../>.
func (s *Scanner) startTag() (Token, error) {
	if err := s.count(); err != nil {
		return EOF, err
	}
	if len(s.open) == 0 && s.rootSeen {
		return EOF, s.errorf(s.pos, "a second element after the root")
	}
	if len(s.open) == s.limits.Depth {
		return EOF, s.limitErrorf(s.pos, s.limits.Depth, "levels of elements")
	}
	start := s.pos + 1
	colon, end, err := s.qname(start)
	if err != nil {
		return EOF, err
	}
	// The element is open from here on, so that an error within its tag has it in the path.
	top := s.push()
	*top = element{from: start, local: max(start, colon+1), to: end, space: -1, ns: len(s.ns)}
	s.rootSeen = true
	s.pos = end
	if err := s.attributes(); err != nil {
		return EOF, err
	}
	prefix := ""
	if colon >= 0 {
		prefix = s.doc[start:colon]
	}
	if top.space = s.find(prefix); top.space < 0 && prefix != "" {
		return EOF, s.errorf(start, "namespace prefix %s is not declared", quoteName(prefix))
	}
	return Start, nil
}

// attributes reads up to and including > or />.
func (s *Scanner) attributes() error {
	s.attrs = s.attrs[:0]
	seen, declared := 0, len(s.ns)
	for {
		before := s.pos
		s.skipSpace()
		if s.pos == len(s.doc) {
			return s.errorf(s.pos, "the document ends within a start tag")
		}
		switch c := s.doc[s.pos]; {
		case c == '>':
			s.pos++
			return s.resolveAttributes()
		case c == '/':
			if s.pos+1 == len(s.doc) || s.doc[s.pos+1] != '>' {
				return s.errorf(s.pos, "'/' within a start tag")
			}
			s.pos += 2
			s.pendingEnd = true
			return s.resolveAttributes()
		case s.pos == before:
			return s.errorf(s.pos, "white space is missing before an attribute")
		}
		if err := s.count(); err != nil {
			return err
		}
		if seen++; seen > s.limits.Attributes {
			return s.limitErrorf(s.pos, s.limits.Attributes, "attributes on one element")
		}
		if err := s.attribute(declared); err != nil {
			return err
		}
	}
}

// attribute reads one attribute. Until the tag is complete, an attribute's Name holds prefix and local name.
func (s *Scanner) attribute(declared int) error {
	start := s.pos
	colon, end, err := s.qname(start)
	if err != nil {
		return err
	}
	s.pos = end
	s.skipSpace()
	if s.pos == len(s.doc) || s.doc[s.pos] != '=' {
		return s.errorf(s.pos, "attribute %s has no value", quoteName(s.doc[start:end]))
	}
	s.pos++
	s.skipSpace()
	value, err := s.attributeValue()
	if err != nil {
		return err
	}
	switch {
	case colon < 0 && s.doc[start:end] == "xmlns":
		return s.declare(start, declared, "", value)
	case colon >= 0 && s.doc[start:colon] == "xmlns":
		return s.declare(start, declared, s.doc[colon+1:end], value)
	}
	a := Attr{Name: Name{Local: s.doc[start:end]}, Value: value, From: start, To: s.pos}
	if colon >= 0 {
		a.Name = Name{Space: s.doc[start:colon], Local: s.doc[colon+1 : end]}
	}
	s.attrs = append(s.attrs, a)
	return nil
}

// endTag reads </name>.
func (s *Scanner) endTag() (Token, error) {
	if err := s.count(); err != nil {
		return EOF, err
	}
	if len(s.open) == 0 {
		return EOF, s.errorf(s.pos, "an end tag without a start tag")
	}
	raw := s.raw(&s.open[len(s.open)-1])
	at := s.pos + len("</")
	if !strings.HasPrefix(s.doc[at:], raw) {
		return EOF, s.errorf(at, "expected </%s>", shorten(raw))
	}
	at += len(raw)
	for at < len(s.doc) && isSpace(s.doc[at]) {
		at++
	}
	if at == len(s.doc) || s.doc[at] != '>' {
		return EOF, s.errorf(s.pos+2, "expected </%s>", shorten(raw))
	}
	s.pos = at + 1
	s.pop()
	return End, nil
}

func (s *Scanner) pop() {
	s.named = len(s.open) - 1
	s.attrs = s.attrs[:0]
	if top := &s.open[s.named]; len(s.ns) > top.ns {
		s.ns = s.ns[:top.ns]
		s.rebind()
	}
	s.open = s.open[:s.named]
}

// qname reads a name with at most one colon, at colon, or -1.
func (s *Scanner) qname(start int) (colon, end int, err error) {
	colon = -1
	i := start
	begin := true // at the beginning of the prefix or the local name
	for i < len(s.doc) {
		c := s.doc[i]
		if c < utf8.RuneSelf {
			if class[c]&nameStart != 0 || !begin && class[c]&nameChar != 0 {
				begin = false
				i++
				continue
			}
			if c == ':' && !begin && colon < 0 {
				colon, begin = i, true
				i++
				continue
			}
			break
		}
		r, width := utf8.DecodeRuneInString(s.doc[i:])
		if !isNameStart(r) && (begin || !isNameChar(r)) {
			break
		}
		begin = false
		i += width
	}
	if begin || i < len(s.doc) && s.doc[i] == ':' {
		return 0, 0, s.errorf(i, "a name is missing or malformed")
	}
	if i-start > s.limits.Name {
		return 0, 0, s.limitErrorf(start, s.limits.Name, "bytes in one name")
	}
	return colon, i, nil
}

func (s *Scanner) skipSpace() {
	for s.pos < len(s.doc) && isSpace(s.doc[s.pos]) {
		s.pos++
	}
}
