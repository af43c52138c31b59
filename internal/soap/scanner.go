package soap

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

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

	token      Token
	name       Name
	attrs      []Attr
	text       string
	pendingEnd bool // the current start tag was an empty-element tag
	rootSeen   bool
	tokens     int
	err        error

	open []element
	ns   []binding
}

type element struct {
	raw  string // the name as written, prefix included: the end tag repeats it
	name Name
	ns   int // len(Scanner.ns) before this element's declarations
}

type binding struct{ prefix, space string }

// Reset prepares s to read document, which is what [Decode] returned.
func (s *Scanner) Reset(document string, limits Limits) {
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

// Attrs are the attributes of the current start tag; they are overwritten by the next.
func (s *Scanner) Attrs() []Attr { return s.attrs }

// Text is the current text, references and line ends replaced.
func (s *Scanner) Text() string { return s.text }

// Depth counts the open elements, the one of the current start tag included and the one of the current end tag not.
func (s *Scanner) Depth() int { return len(s.open) }

// Span delimits the current token in the document. An empty-element tag's End is an empty span after it.
func (s *Scanner) Span() (from, to int) { return s.from, s.pos }

// Nil reports whether the current start tag carries xsi:nil="true", whatever the prefix.
func (s *Scanner) Nil() bool {
	for i := range s.attrs {
		if a := &s.attrs[i]; a.Name.Local == "nil" && a.Name.Space == XSI {
			v := strings.Trim(a.Value, " ")
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
	s.token, s.err = s.next()
	return s.token, s.err
}

func (s *Scanner) next() (Token, error) {
	s.from = s.pos
	if s.pendingEnd {
		s.pendingEnd = false
		return s.pop()
	}
	if s.pos == 0 && strings.HasPrefix(s.doc, "<?xml") && len(s.doc) > 5 && isSpace(s.doc[5]) {
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
		return EOF, s.errorf(s.pos, "the document ends before </%s>", quotedLocal(s.open[len(s.open)-1].raw))
	case !s.rootSeen:
		return EOF, s.errorf(s.pos, "the document has no element")
	}
	return EOF, nil
}

// count charges tokens against the cap.
func (s *Scanner) count() error {
	if s.tokens++; s.tokens > s.limits.Tokens {
		return s.limitErrorf(s.pos, "tokens", s.limits.Tokens)
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

// startTag reads <name attr="value" ...> or <name .../>.
func (s *Scanner) startTag() (Token, error) {
	if err := s.count(); err != nil {
		return EOF, err
	}
	if len(s.open) == 0 && s.rootSeen {
		return EOF, s.errorf(s.pos, "a second element after the root")
	}
	if len(s.open) == s.limits.Depth {
		return EOF, s.limitErrorf(s.pos, "depth", s.limits.Depth)
	}
	start := s.pos + 1
	colon, end, err := s.qname(start)
	if err != nil {
		return EOF, err
	}
	e := element{raw: s.doc[start:end], ns: len(s.ns)}
	s.pos = end
	if err := s.attributes(); err != nil {
		return EOF, err
	}
	if e.name, err = s.resolve(start, colon, end, true); err != nil {
		return EOF, err
	}
	s.rootSeen = true
	s.open = append(s.open, e)
	s.name = e.name
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
			return s.limitErrorf(s.pos, "attributes", s.limits.Attributes)
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

// declare binds a prefix for the element whose tag is being read.
func (s *Scanner) declare(at, declared int, prefix, space string) error {
	for _, b := range s.ns[declared:] {
		if b.prefix == prefix {
			return s.errorf(at, "namespace prefix %s is declared twice", quoteName(prefix))
		}
	}
	switch {
	case prefix == "xmlns", space == xmlnsNamespace:
		return s.errorf(at, "xmlns cannot be declared")
	case (prefix == "xml") != (space == xmlNamespace):
		return s.errorf(at, "prefix xml and its namespace belong together")
	case prefix != "" && space == "":
		return s.errorf(at, "namespace prefix %s cannot be undeclared", quoteName(prefix))
	}
	if len(s.ns) > s.limits.Namespaces {
		return s.limitErrorf(at, "namespaces", s.limits.Namespaces)
	}
	s.ns = append(s.ns, binding{prefix, space})
	return nil
}

// resolveAttributes turns the prefixes of s.attrs into namespaces and refuses a name that stands twice.
func (s *Scanner) resolveAttributes() error {
	for i := range s.attrs {
		a := &s.attrs[i]
		if a.Name.Space != "" {
			space, ok := s.lookup(a.Name.Space)
			if !ok {
				return s.errorf(a.From, "namespace prefix %s is not declared", quoteName(a.Name.Space))
			}
			a.Name.Space = space
		}
		for j := range s.attrs[:i] {
			if s.attrs[j].Name == a.Name {
				return s.errorf(a.From, "attribute %s stands twice", quoteName(a.Name.Local))
			}
		}
	}
	return nil
}

func (s *Scanner) resolve(start, colon, end int, useDefault bool) (Name, error) {
	if colon < 0 {
		n := Name{Local: s.doc[start:end]}
		if useDefault {
			n.Space, _ = s.lookup("")
		}
		return n, nil
	}
	prefix := s.doc[start:colon]
	space, ok := s.lookup(prefix)
	if !ok {
		return Name{}, s.errorf(start, "namespace prefix %s is not declared", quoteName(prefix))
	}
	return Name{Space: space, Local: s.doc[colon+1 : end]}, nil
}

func (s *Scanner) lookup(prefix string) (string, bool) {
	for i := len(s.ns) - 1; i >= 0; i-- {
		if s.ns[i].prefix == prefix {
			return s.ns[i].space, true
		}
	}
	return "", false
}

// endTag reads </name>.
func (s *Scanner) endTag() (Token, error) {
	if err := s.count(); err != nil {
		return EOF, err
	}
	if len(s.open) == 0 {
		return EOF, s.errorf(s.pos, "an end tag without a start tag")
	}
	raw := s.open[len(s.open)-1].raw
	at := s.pos + 2
	if !strings.HasPrefix(s.doc[at:], raw) {
		return EOF, s.errorf(at, "expected </%s>", quotedLocal(raw))
	}
	at += len(raw)
	for at < len(s.doc) && isSpace(s.doc[at]) {
		at++
	}
	if at == len(s.doc) || s.doc[at] != '>' {
		return EOF, s.errorf(s.pos, "expected </%s>", quotedLocal(raw))
	}
	s.pos = at + 1
	return s.pop()
}

func (s *Scanner) pop() (Token, error) {
	top := s.open[len(s.open)-1]
	s.open = s.open[:len(s.open)-1]
	s.ns = s.ns[:top.ns]
	s.name = top.name
	s.attrs = s.attrs[:0]
	return End, nil
}

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
		return EOF, s.limitErrorf(start, "text", s.limits.Text)
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
		if c == quote {
			if i-start > s.limits.Text {
				return "", s.limitErrorf(start, "text", s.limits.Text)
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

// reference checks the reference at i and returns its length.
func (s *Scanner) reference(i int) (int, error) {
	end := strings.IndexByte(s.doc[i:min(len(s.doc), i+longestReference)], ';')
	if end < 0 {
		return 0, s.errorf(i, "'&' that begins no reference: write &amp;")
	}
	if _, ok := referenced(s.doc[i+1 : i+end]); !ok {
		return 0, s.errorf(i, "a reference to no character that XML allows, or to an entity other than the predefined five")
	}
	return end + 1, nil
}

// longestReference bounds a reference; leading zeros make it as long as one likes, and nobody needs them.
const longestReference = 32

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

// declarationOrComment reads what begins with <!: a comment, or a CDATA section, which is text.
func (s *Scanner) declarationOrComment() (isText bool, err error) {
	rest := s.doc[s.pos:]
	switch {
	case strings.HasPrefix(rest, "<!--"):
		return false, s.comment()
	case strings.HasPrefix(rest, "<![CDATA[") && len(s.open) > 0:
		return true, s.cdata()
	case strings.HasPrefix(rest, "<!DOCTYPE"):
		return false, s.errorf(s.pos, "a document type declaration is not accepted in a SOAP message")
	}
	return false, s.errorf(s.pos, "a declaration other than a comment or a CDATA section within an element")
}

func (s *Scanner) comment() error {
	if err := s.count(); err != nil {
		return err
	}
	start := s.pos + len("<!--")
	length := strings.Index(s.doc[start:], "--")
	if length < 0 {
		return s.errorf(s.pos, "the document ends within a comment")
	}
	if !strings.HasPrefix(s.doc[start+length:], "-->") {
		return s.errorf(start+length, "-- within a comment")
	}
	if err := s.checkRun(start, length); err != nil {
		return err
	}
	s.pos = start + length + len("-->")
	return nil
}

func (s *Scanner) cdata() error {
	if err := s.count(); err != nil {
		return err
	}
	start := s.pos + len("<![CDATA[")
	length := strings.Index(s.doc[start:], "]]>")
	if length < 0 {
		return s.errorf(s.pos, "the document ends within a CDATA section")
	}
	if err := s.checkRun(start, length); err != nil {
		return err
	}
	s.pos = start + length + len("]]>")
	s.text = s.doc[start : start+length]
	if strings.IndexByte(s.text, '\r') >= 0 {
		s.text = strings.ReplaceAll(strings.ReplaceAll(s.text, "\r\n", "\n"), "\r", "\n")
	}
	return nil
}

// instruction reads a processing instruction, which has no meaning here.
func (s *Scanner) instruction() error {
	if err := s.count(); err != nil {
		return err
	}
	start := s.pos + len("<?")
	colon, end, err := s.qname(start)
	if err != nil {
		return err
	}
	switch target := s.doc[start:end]; {
	case strings.EqualFold(target, "xml"):
		return s.errorf(s.pos, "an XML declaration that does not begin the document")
	case colon >= 0:
		return s.errorf(s.pos, "a processing instruction's name has a colon")
	}
	length := strings.Index(s.doc[end:], "?>")
	if length < 0 {
		return s.errorf(s.pos, "the document ends within a processing instruction")
	}
	if length > 0 && !isSpace(s.doc[end]) {
		return s.errorf(end, "white space is missing after a processing instruction's name")
	}
	if err := s.checkRun(end, length); err != nil {
		return err
	}
	s.pos = end + length + len("?>")
	return nil
}

// declaration reads <?xml version="1.0" encoding="..." standalone="..."?>. The encoding was dealt with in [Decode].
func (s *Scanner) declaration() error {
	s.pos = len("<?xml")
	version, err := s.pseudoAttribute("version")
	if err != nil {
		return err
	}
	if version != "1.0" {
		return s.errorf(0, "the XML declaration must begin with version=\"1.0\"")
	}
	encoding, err := s.pseudoAttribute("encoding")
	if err != nil {
		return err
	}
	if encoding != "" && !isEncodingName(encoding) {
		return s.errorf(0, "the XML declaration names no encoding")
	}
	standalone, err := s.pseudoAttribute("standalone")
	if err != nil {
		return err
	}
	if standalone != "" && standalone != "yes" && standalone != "no" {
		return s.errorf(0, "standalone of the XML declaration must be yes or no")
	}
	s.skipSpace()
	if !strings.HasPrefix(s.doc[s.pos:], "?>") {
		return s.errorf(s.pos, "unexpected text in the XML declaration")
	}
	s.pos += len("?>")
	return nil
}

// pseudoAttribute reads one member of the XML declaration, or returns "" and stays where it is.
func (s *Scanner) pseudoAttribute(name string) (string, error) {
	start := s.pos
	s.skipSpace()
	if s.pos == start || !strings.HasPrefix(s.doc[s.pos:], name) {
		s.pos = start
		return "", nil
	}
	s.pos += len(name)
	s.skipSpace()
	if s.pos == len(s.doc) || s.doc[s.pos] != '=' {
		return "", s.errorf(s.pos, "%s of the XML declaration has no value", name)
	}
	s.pos++
	s.skipSpace()
	value, err := s.attributeValue()
	if err == nil && value == "" {
		err = s.errorf(s.pos, "%s of the XML declaration is empty", name)
	}
	return value, err
}

// checkRun checks the characters and the length of a comment, CDATA section or processing instruction.
func (s *Scanner) checkRun(start, length int) error {
	if length > s.limits.Text {
		return s.limitErrorf(start, "text", s.limits.Text)
	}
	for i := start; i < start+length; i++ {
		if class[s.doc[i]]&plainText == 0 && s.forbidden(i) {
			return s.errorf(i, "character %s is not allowed in XML", s.char(i))
		}
	}
	return nil
}

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
	if i-start > s.limits.Text {
		return 0, 0, s.limitErrorf(start, "text", s.limits.Text)
	}
	return colon, i, nil
}

func (s *Scanner) skipSpace() {
	for s.pos < len(s.doc) && isSpace(s.doc[s.pos]) {
		s.pos++
	}
}

// Position is the line and column of an offset in the document, both from 1, columns in characters.
func (s *Scanner) Position(offset int) (line, column int) { return position(s.doc[:offset]) }

func position(before string) (line, column int) {
	line = 1 + strings.Count(before, "\n")
	return line, 1 + utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
}

// Path names the open elements, without prefixes.
func (s *Scanner) Path() string {
	var b strings.Builder
	for i := range s.open {
		b.WriteByte('/')
		b.WriteString(s.open[i].name.Local)
		const longest = 512
		if b.Len() > longest {
			return b.String()[:longest] + "..."
		}
	}
	return b.String()
}

// Errorf is a refusal of the document as malformed, at the current token, for a reader that asks more than XML does.
func (s *Scanner) Errorf(format string, args ...any) error {
	return s.errorf(s.from, format, args...)
}

func (s *Scanner) errorf(offset int, format string, args ...any) error {
	e := &Error{Class: ErrMalformed, Path: s.Path(), Msg: fmt.Sprintf(format, args...)}
	e.Line, e.Column = s.Position(min(offset, len(s.doc)))
	return e
}

func (s *Scanner) limitErrorf(offset int, what string, most int) error {
	e := limitError(what, most)
	e.Line, e.Column = s.Position(min(offset, len(s.doc)))
	e.Path = s.Path()
	return e
}

func limitError(what string, most int) *Error {
	return &Error{Class: ErrLimit, Msg: fmt.Sprintf("more than %d %s", most, limitUnit[what])}
}

var limitUnit = map[string]string{
	"bytes":      "bytes",
	"depth":      "levels of elements",
	"attributes": "attributes on one element",
	"namespaces": "namespace declarations in scope",
	"tokens":     "tags, attributes, texts and comments",
	"text":       "bytes in one text",
}

func encodingError(before, format string, args ...any) error {
	e := &Error{Class: ErrEncoding, Msg: fmt.Sprintf(format, args...)}
	if before != "" {
		e.Line, e.Column = position(before)
	}
	return e
}

func quotedLocal(raw string) string {
	if len(raw) > 64 {
		return raw[:64] + "..."
	}
	return raw
}
