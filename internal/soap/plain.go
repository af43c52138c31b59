package soap

import "strings"

// What stands here are short cuts for what senders write most of the time. They judge nothing: whatever is not plain, or a limit might be
// met by, is left where it is, for those to read who do.

// nilTag is the rest of a start tag whose element is nil, as senders write a member that they leave out.
const nilTag = ` xsi:nil="true"/>`

// Shape is what [Scanner.Ahead] sees.
type Shape uint8

const (
	Unclear  Shape = iota // it is left to Next
	Opening               // a start tag
	Closing               // an end tag
	WholeNil              // an element that is nil, and nothing else
	Whole                 // an element with text in it, or nothing
)

// ahead is what was seen last, by offsets in the document.
type ahead struct {
	shape  Shape
	from   int // the tag begins, after the white space that stands before it
	nameTo int // the name of a start tag ends
	to     int // the tag ends
	textTo int // the text of a Whole ends
	tokens int // what the white space and the tag count as
}

// Ahead looks at what comes next, after white space, and reads nothing. The namespace of a name that is plain is the default one.
func (s *Scanner) Ahead() Shape {
	shape := s.tagAhead()
	if shape != Opening {
		return shape
	}
	a, doc := &s.ahead, s.doc
	i := a.to
	if i < len(doc) && doc[i] == '\n' { // as most often if there are elements in it
		return Opening
	}
	for i < len(doc) && class[doc[i]]&plainText != 0 {
		i++
	}
	name := a.from + 1
	end := i + len("</") + a.nameTo - name
	if end >= len(doc) || doc[i] != '<' || doc[i+1] != '/' || doc[end] != '>' || doc[i+len("</"):end] != doc[name:a.nameTo] || i-a.to > s.limits.Text {
		return Opening
	}
	a.shape, a.textTo = Whole, i
	return Whole
}

// tagAhead looks at the next tag only.
func (s *Scanner) tagAhead() Shape {
	if len(s.open) == 0 || s.pendingEnd || s.err != nil || s.tokens+4 > s.limits.Tokens {
		return Unclear
	}
	doc, i := s.doc, s.pos
	for i < len(doc) && (doc[i] == '\n' || doc[i] == ' ' || doc[i] == '\t') {
		i++
	}
	if i+1 >= len(doc) || doc[i] != '<' || i-s.pos > s.limits.Text {
		return Unclear
	}
	a := &s.ahead
	a.from, a.tokens = i, 1
	if i > s.pos {
		a.tokens = 2
	}
	i++
	if doc[i] == '/' {
		top := &s.open[len(s.open)-1]
		end := i + 1 + top.to - top.from
		if end >= len(doc) || doc[end] != '>' || doc[i+1:end] != doc[top.from:top.to] {
			return Unclear
		}
		a.shape, a.to = Closing, end+1
		return Closing
	}
	if class[doc[i]]&nameStart == 0 {
		return Unclear
	}
	for i++; i < len(doc) && class[doc[i]]&nameChar != 0; i++ {
	}
	if i == len(doc) || len(s.open) >= s.limits.Depth || i-a.from > s.limits.Name {
		return Unclear
	}
	switch a.nameTo = i; {
	case doc[i] == '>':
		a.shape, a.to = Opening, i+1
		return Opening
	case s.xsi && strings.HasPrefix(doc[i:], nilTag):
		a.tokens++
		a.shape, a.to = WholeNil, i+len(nilTag)
		return WholeNil
	}
	return Unclear
}

// AheadBlank is the white space before what [Scanner.Ahead] saw.
func (s *Scanner) AheadBlank() string { return s.doc[s.pos:s.ahead.from] }

// AheadName is the name of the element that [Scanner.Ahead] saw, and its namespace.
func (s *Scanner) AheadName() Name { return Name{s.space, s.doc[s.ahead.from+1 : s.ahead.nameTo]} }

// AheadText is the text of the Whole that [Scanner.Ahead] saw.
func (s *Scanner) AheadText() string { return s.doc[s.ahead.to:s.ahead.textTo] }

// TakeTag reads the tag that [Scanner.Ahead] saw, as [Scanner.Next] would, and the white space before it. What it saw of a whole element is but
// the start tag.
func (s *Scanner) TakeTag() Token {
	a := &s.ahead
	s.from, s.pos = a.from, a.to
	s.tokens += a.tokens
	if a.shape == Closing {
		s.pop()
		return End
	}
	name := a.from + 1
	s.attrs = s.attrs[:0]
	if a.shape == WholeNil {
		s.attrs = append(s.attrs, Attr{Name: Name{XSI, "nil"}, Value: "true", From: a.nameTo + 1, To: s.pos - len("/>")})
		s.pendingEnd = true
	}
	top := s.push()
	top.from, top.local, top.to, top.space, top.ns = name, name, a.nameTo, s.spaceAt, len(s.ns)
	return Start
}

// TakeWhole reads the whole element that [Scanner.Ahead] saw, and the white space before it. No token is the current one then, but [Scanner.Span]
// delimits the element.
func (s *Scanner) TakeWhole() {
	a := &s.ahead
	s.from = a.from
	s.attrs = s.attrs[:0]
	s.tokens += a.tokens
	if s.pos = a.to; a.shape == Whole {
		s.tokens++
		if a.textTo > a.to {
			s.tokens++
		}
		s.pos = a.textTo + len("</") + a.nameTo - a.from // the end tag's '>' and the '<' before the name make up for each other
	}
}

// plainTag reads a tag that is plain and stands here.
func (s *Scanner) plainTag() (Token, bool) {
	if s.pos >= len(s.doc) || s.doc[s.pos] != '<' || s.tagAhead() == Unclear {
		return EOF, false
	}
	return s.TakeTag(), true
}

// Leaf is the content of the element whose start tag is current, if that is plain text and nothing else. [Scanner.TakeLeaf] then reads it and the
// end tag at once.
func (s *Scanner) Leaf() (text string, ok bool) {
	doc, i := s.doc, s.pos
	if s.pendingEnd || s.err != nil {
		return "", false
	}
	for i < len(doc) && class[doc[i]]&plainText != 0 {
		i++
	}
	raw := s.raw(&s.open[len(s.open)-1])
	begin := i + len("</")
	end := begin + len(raw)
	if end >= len(doc) || doc[i] != '<' || doc[i+1] != '/' || doc[end] != '>' || doc[begin:end] != raw ||
		s.tokens+2 > s.limits.Tokens || i-s.pos > s.limits.Text {
		return "", false
	}
	return doc[s.pos:i], true
}

// TakeLeaf reads what [Scanner.Leaf] returned. The end tag is the current token then.
func (s *Scanner) TakeLeaf(text string) {
	s.from = s.pos + len(text)
	if s.tokens++; text != "" {
		s.tokens++
	}
	top := &s.open[len(s.open)-1]
	s.pos = s.from + len("</") + top.to - top.from + len(">")
	s.pop()
}
