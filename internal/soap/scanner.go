package soap

import "strings"

// Token is the kind of what [Scanner.Next] found.
type Token uint8

const (
	EOF   Token = iota // the document is over, and was well-formed
	Start              // a start tag: Name and Attrs hold
	End                // an end tag, or the end of an empty-element tag: Name holds
	Text               // character data or one CDATA section, within the root: Text holds
)

// Name is a name with its namespace resolved.
type Name struct{ Space, Local string }

func (n Name) String() string {
	if n.Space == "" {
		return n.Local
	}
	return "{" + n.Space + "}" + n.Local
}

// Attr is an attribute that declares no namespace. From and To delimit it in the document, value and quotes included.
type Attr struct {
	Name     Name
	Value    string
	From, To int
}

const (
	xmlNamespace   = "http://www.w3.org/XML/1998/namespace"
	xmlnsNamespace = "http://www.w3.org/2000/xmlns/"
	// XSI is the namespace of xsi:nil and xsi:type.
	XSI = "http://www.w3.org/2001/XMLSchema-instance"
)

// Scanner reads one document token by token. It checks all that XML 1.0 and Namespaces in XML ask of a document without a
// DTD; comments and processing instructions are checked and passed over. Names and texts are substrings of the document
// wherever no reference or line end had to be replaced.
//
// The zero Scanner is ready for [Scanner.Reset]. A Scanner is for one goroutine at a time. After an error it stays at it.
type Scanner struct {
	doc    string
	pos    int // after the current token
	from   int // before the current token
	limits Limits

	name       Name
	attrs      []Attr
	text       string
	pendingEnd bool // the current start tag was an empty-element tag
	rootSeen   bool
	tokens     int
	err        error

	open  []element
	ns    []binding
	space string // the default namespace, of names without a prefix
}

type element struct {
	raw   string // the name as written, prefix included: the end tag repeats it
	space string
	local int // where the local name begins in raw
	ns    int // len(Scanner.ns) before this element's declarations
}

func (e *element) name() Name { return Name{e.space, e.raw[e.local:]} }

type binding struct{ prefix, space string }

// Reset prepares s to read document, which is what [Decode] returned. It forgets the one before: a pooled Scanner that was reset to an
// empty document keeps nothing alive.
func (s *Scanner) Reset(document string, limits Limits) {
	clear(s.attrs[:cap(s.attrs)])
	clear(s.open[:cap(s.open)])
	clear(s.ns[:cap(s.ns)])
	*s = Scanner{
		doc: document, limits: limits.WithDefaults(),
		attrs: s.attrs[:0], open: s.open[:0],
		ns: append(s.ns[:0], binding{"xml", xmlNamespace}),
	}
}

// Document is the document being read.
func (s *Scanner) Document() string { return s.doc }

// Name is the name of the current start or end tag.
func (s *Scanner) Name() Name { return s.name }

// Attrs are the attributes of the last start tag, until the next tag is read.
func (s *Scanner) Attrs() []Attr { return s.attrs }

// Text is the current text, references and line ends replaced.
func (s *Scanner) Text() string { return s.text }

// Depth counts the open elements, the one of the current start tag included and the one of the current end tag not.
func (s *Scanner) Depth() int { return len(s.open) }

// Element is the name of the open element at a depth, which counts from 1 and is at most [Scanner.Depth].
func (s *Scanner) Element(depth int) Name { return s.open[depth-1].name() }

// Span delimits the current token in the document. An empty-element tag's End is an empty span after it.
func (s *Scanner) Span() (from, to int) { return s.from, s.pos }

// Nil reports whether the last start tag, if no other tag followed it, carries xsi:nil="true", whatever the prefix.
func (s *Scanner) Nil() bool {
	return len(s.attrs) > 0 && s.isNil()
}

func (s *Scanner) isNil() bool {
	for i := range s.attrs {
		if a := &s.attrs[i]; a.Name.Local == "nil" && a.Name.Space == XSI {
			if a.Value == "true" {
				return true
			}
			v := strings.Trim(a.Value, whiteSpace)
			return v == "true" || v == "1"
		}
	}
	return false
}

// Next reads the next token.
func (s *Scanner) Next() (Token, error) {
	if s.err != nil {
		return EOF, s.err
	}
	if token, ok := s.plainTag(); ok {
		return token, nil
	}
	token, err := s.next()
	s.err = err
	return token, err
}

func (s *Scanner) next() (Token, error) {
	s.from = s.pos
	if s.pendingEnd {
		s.pendingEnd = false
		s.pop()
		return End, nil
	}
	if s.pos == 0 && beginsDeclaration(s.doc) {
		if err := s.declaration(); err != nil {
			return EOF, err
		}
	}
	for {
		s.from = s.pos
		if s.pos == len(s.doc) {
			return s.atEnd()
		}
		if s.doc[s.pos] != '<' {
			if len(s.open) == 0 {
				if err := s.spaceOutsideRoot(); err != nil {
					return EOF, err
				}
				continue
			}
			return s.chars()
		}
		if s.pos+1 == len(s.doc) {
			return EOF, s.errorf(s.pos, "the document ends within a tag")
		}
		switch s.doc[s.pos+1] {
		case '/':
			return s.endTag()
		case '?':
			if err := s.instruction(); err != nil {
				return EOF, err
			}
		case '!':
			isText, err := s.declarationOrComment()
			if err != nil {
				return EOF, err
			}
			if isText {
				return Text, nil
			}
		default:
			return s.startTag()
		}
	}
}

// nilTag is the rest of a start tag whose element is nil.
const nilTag = ` xsi:nil="true"/>`

// plainTag reads a start tag that is nothing but a name of ASCII without a prefix, or that and nil, or an end tag as it is most often written. It is a short cut and
// judges nothing: whatever is not plain, or a limit might be met by, is left where it is.
func (s *Scanner) plainTag() (Token, bool) {
	doc, i := s.doc, s.pos+1
	if i+1 >= len(doc) || doc[i-1] != '<' || len(s.open) == 0 || s.pendingEnd {
		return EOF, false
	}
	s.from = s.pos
	if doc[i] == '/' {
		top := &s.open[len(s.open)-1]
		i++
		end := i + len(top.raw)
		if end >= len(doc) || doc[end] != '>' || doc[i:end] != top.raw || s.tokens == s.limits.Tokens {
			return EOF, false
		}
		s.tokens++
		s.pos = end + 1
		s.pop()
		return End, true
	}
	if class[doc[i]]&nameStart == 0 {
		return EOF, false
	}
	start := i
	for i++; i < len(doc) && class[doc[i]]&nameChar != 0; i++ {
	}
	if i == len(doc) || len(s.open) >= s.limits.Depth || s.tokens+2 > s.limits.Tokens || i-start > s.limits.Name {
		return EOF, false
	}
	raw := doc[start:i]
	switch {
	case doc[i] == '>':
		s.tokens++
		s.pos = i + 1
		s.attrs = s.attrs[:0]
	case strings.HasPrefix(doc[i:], nilTag): // as senders write a member that they leave out
		if space, _ := s.lookup("xsi"); space != XSI {
			return EOF, false
		}
		s.tokens += 2
		s.pos = i + len(nilTag)
		s.attrs = append(s.attrs[:0], Attr{Name: Name{XSI, "nil"}, Value: "true", From: i + 1, To: s.pos - len("/>")})
		s.pendingEnd = true
	default:
		return EOF, false
	}
	s.open = append(s.open, element{raw: raw, space: s.space, ns: len(s.ns)})
	s.name = Name{s.space, raw}
	return Start, true
}

// Blank passes over white space before a tag, and returns it. It is a short cut for a reader to whom white space there says nothing: what is not
// plain it leaves to [Scanner.Next].
func (s *Scanner) Blank() string {
	doc, i := s.doc, s.pos
	for i < len(doc) && (doc[i] == '\n' || doc[i] == ' ' || doc[i] == '\t') {
		i++
	}
	if i == s.pos || i == len(doc) || doc[i] != '<' || len(s.open) == 0 || s.pendingEnd || s.err != nil ||
		s.tokens == s.limits.Tokens || i-s.pos > s.limits.Text {
		return ""
	}
	blank := doc[s.pos:i]
	s.tokens++
	s.pos = i
	return blank
}

// Leaf is the content of the element whose start tag is current, if that is plain text and nothing else. [Scanner.TakeLeaf] then reads it and the
// end tag at once. It is a short cut as well: what is not plain is not ok.
func (s *Scanner) Leaf() (text string, ok bool) {
	doc, i := s.doc, s.pos
	if s.pendingEnd || s.err != nil {
		return "", false
	}
	for i < len(doc) && class[doc[i]]&plainText != 0 {
		i++
	}
	raw := s.open[len(s.open)-1].raw
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
	s.pos = s.from + len("</") + len(s.open[len(s.open)-1].raw) + len(">")
	s.pop()
}

func (s *Scanner) atEnd() (Token, error) {
	switch {
	case len(s.open) > 0:
		return EOF, s.errorf(s.pos, "the document ends before </%s>", shorten(s.open[len(s.open)-1].raw))
	case !s.rootSeen:
		return EOF, s.errorf(s.pos, "the document has no element")
	}
	return EOF, nil
}

// count charges tokens against the cap.
func (s *Scanner) count() error {
	if s.tokens++; s.tokens > s.limits.Tokens {
		return s.limitErrorf(s.pos, s.limits.Tokens, "tags, attributes, texts, comments and processing instructions")
	}
	return nil
}

func (s *Scanner) spaceOutsideRoot() error {
	for s.pos < len(s.doc) && s.doc[s.pos] != '<' {
		if !isSpace(s.doc[s.pos]) {
			where := "before the first element"
			if s.rootSeen {
				where = "after the last element"
			}
			return s.errorf(s.pos, "text %s", where)
		}
		s.pos++
	}
	return nil
}
