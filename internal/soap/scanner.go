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

	named      int // the place in open of the element of the current start or end tag: it stays there when it is no longer open
	attrs      []Attr
	text       string
	pendingEnd bool // the current start tag was an empty-element tag
	rootSeen   bool
	tokens     int
	err        error

	open []element
	ns   []binding

	space   string // the default namespace, of names without a prefix
	spaceAt int    // its place in ns, or -1
	xsi     bool   // the prefix xsi stands for XSI

	ahead ahead
}

// element is an open one. It holds no pointers: it is written for every tag, and the garbage collector need not hear of that.
type element struct {
	from, local, to int // the name as written, which the end tag repeats, and its local part
	space           int // the place of the namespace in Scanner.ns, or -1
	ns              int // len(Scanner.ns) before this element's declarations
}

func (s *Scanner) raw(e *element) string { return s.doc[e.from:e.to] }

func (s *Scanner) nameOf(e *element) Name {
	name := Name{Local: s.doc[e.local:e.to]}
	if e.space >= 0 {
		name.Space = s.ns[:cap(s.ns)][e.space].space // the current end tag may have ended the declaration too
	}
	return name
}

// push opens an element, which the caller completes.
func (s *Scanner) push() *element {
	s.named = len(s.open)
	if s.named < cap(s.open) {
		s.open = s.open[:s.named+1]
	} else {
		s.open = append(s.open, element{})
	}
	return &s.open[s.named]
}

type binding struct{ prefix, space string }

// Reset prepares s to read document, which is what [Decode] returned. It forgets the one before: a pooled Scanner that was reset to an
// empty document keeps nothing alive.
func (s *Scanner) Reset(document string, limits Limits) {
	clear(s.attrs[:cap(s.attrs)])
	clear(s.ns[:cap(s.ns)])
	*s = Scanner{
		doc: document, limits: limits.WithDefaults(),
		attrs: s.attrs[:0], open: s.open[:0],
		ns: append(s.ns[:0], binding{"xml", xmlNamespace}), spaceAt: -1,
	}
}

// Document is the document being read.
func (s *Scanner) Document() string { return s.doc }

// Name is the name of the current start or end tag.
func (s *Scanner) Name() Name { return s.nameOf(&s.open[:cap(s.open)][s.named]) }

// Attrs are the attributes of the last start tag, until the next tag is read.
func (s *Scanner) Attrs() []Attr { return s.attrs }

// Text is the current text, references and line ends replaced.
func (s *Scanner) Text() string { return s.text }

// Depth counts the open elements, the one of the current start tag included and the one of the current end tag not.
func (s *Scanner) Depth() int { return len(s.open) }

// Element is the name of the open element at a depth, which counts from 1 and is at most [Scanner.Depth].
func (s *Scanner) Element(depth int) Name { return s.nameOf(&s.open[depth-1]) }

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

func (s *Scanner) atEnd() (Token, error) {
	switch {
	case len(s.open) > 0:
		return EOF, s.errorf(s.pos, "the document ends before </%s>", shorten(s.raw(&s.open[len(s.open)-1])))
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
