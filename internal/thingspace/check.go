package thingspace

import (
	"fmt"
	"strconv"
	"strings"

	"callbackd/internal/soap"
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

// MaxViolations bounds the list of violations of one message, unless its reader asks for another number.
const MaxViolations = 16

// What follows are the tables that decodegen fills from the schemas.

// contentType is a type of the schemas.
type contentType struct {
	simple     bool // it holds a text of the kind value, and no elements
	value      valueKind
	mixed      bool    // text may stand between elements
	attributes string  // the namespace of attributes that may stand there: "" for none, "##any", or a namespace
	declared   []edge  // every element that it names; next is -1 for one whose place is not published
	states     []state // of its content; the first is where it begins
}

type state struct {
	edges  []edge
	lax    int // the state after an element that nobody declared, or -1
	accept bool
}

// edge is an element that may come next, and the state after it.
type edge struct {
	local, space string
	typ, next    int
	nillable     bool
	once         bool // only the first that is filled is known, in a list that is open
}

type valueKind uint8

const (
	anyText valueKind = iota
	anInt
	aLong
	aBoolean
	aQName
)

// checker walks the content models while a message is read: one step for each tag. What the decoder takes out of the schema's sight it
// enters as hidden.
//
// It costs nothing that grows with the message: the place of a violation is worked out when there is one.
type checker struct {
	s        *soap.Scanner
	base     int    // the depth of the element of the first frame
	space    string // the payload's namespace, as the document has it; it is Namespace if anything is judged
	envelope bool   // the outermost two elements are the envelope's, and not in the paths of violations
	strict   bool   // every element and attribute is in sight: there is no decoder to take one out
	frames   []frame
	found    []Violation
	most     int

	value   string // of the innermost element that is judged, if its type is simple: there are no such elements in one
	unbound bool   // that value is a QName with a prefix that is not declared
}

// frame is an open element. It holds no pointers: it is written for every element, and the garbage collector need not hear of that.
type frame struct {
	typ    int  // its place in types
	state  int  // its place in the type's states
	seen   uint // the edges that are taken once, by their place
	hidden bool // nothing in it is judged
	nilled bool
	told   bool // that it is nil and not empty
}

func (f *frame) of() *contentType { return &types[f.typ] }

func (f *frame) at() *state { return &types[f.typ].states[f.state] }

func (c *checker) reset(s *soap.Scanner, most int) {
	*c = checker{s: s, frames: c.frames[:0], most: most}
}

// root enters the payload, of a type of the tables or, if that is 0, hidden.
func (c *checker) root(name soap.Name, typ int) {
	c.space, c.base = name.Space, c.s.Depth()
	c.push(&edge{typ: typ}, typ == typeAnyType)
}

// enter steps to the element whose start tag is current. It reports whether the schema knows an element of this name here, be it at its place or
// not. If it does not, the element is not entered.
func (c *checker) enter(name soap.Name) bool {
	top := &c.frames[len(c.frames)-1]
	typ := top.of()
	if top.hidden {
		if e := typ.declares(name.Local); e != nil {
			c.push(e, true)
			return true
		}
		return false
	}
	if !c.strict && name.Space == c.space {
		name.Space = Namespace // the same text, and the same memory as in the tables: comparing is quick then
	}
	if !typ.simple && !top.nilled {
		if i := top.at().find(name); i >= 0 {
			e := &top.at().edges[i]
			if e.once {
				if top.seen>>i&1 != 0 {
					return false
				}
				if !c.s.Nil() {
					top.seen |= 1 << i
				}
			}
			top.state = e.next
			c.push(e, false)
			return true
		}
	}
	if e := typ.declares(name.Local); e != nil {
		if e.once {
			return false // a list that is open has nothing against it
		}
		c.unexpected(name.Local)
		c.push(e, true)
		return true
	}
	return false
}

// find is the place of the edge of a name, or -1.
func (st *state) find(name soap.Name) int {
	for i := range st.edges {
		if e := &st.edges[i]; e.local == name.Local && e.space == name.Space {
			return i
		}
	}
	return -1
}

// declares finds an element by its local name whose place is published.
func (t *contentType) declares(local string) *edge {
	for i := range t.declared {
		if e := &t.declared[i]; e.local == local && e.next >= 0 {
			return e
		}
	}
	return nil
}

// plain steps over a whole element in the payload's namespace that has no attributes and only text in it, or, if nilled, nothing and xsi:nil. It
// reports whether the schema knows it. What is not ok needs a closer look, and was not stepped over.
func (c *checker) plain(local string, nilled bool) (known, ok bool) {
	top := &c.frames[len(c.frames)-1]
	typ := top.of()
	if top.hidden {
		return false, !nilled && len(typ.declared) == 0
	}
	if typ.simple || top.nilled {
		return false, false
	}
	st := top.at()
	i := st.find(soap.Name{Space: Namespace, Local: local})
	if i < 0 {
		return false, !nilled && typ.declares(local) == nil
	}
	e := &st.edges[i]
	if nilled {
		ok = e.nillable && top.seen>>i&1 == 0
	} else {
		ok = !e.once && types[e.typ].simple && types[e.typ].value == anyText
	}
	if ok {
		top.state = e.next
	}
	return ok, ok
}

// misplaced enters an element of which the schema knows none here, though it does elsewhere.
func (c *checker) misplaced(e *edge) {
	if top := &c.frames[len(c.frames)-1]; !top.hidden {
		c.unexpected(e.local)
	}
	c.push(e, true)
}

// hide enters an element that the schema must not see.
func (c *checker) hide() {
	*c.open() = frame{typ: typeAnyType, hidden: true}
}

// open makes room for one more frame, which the caller fills.
func (c *checker) open() *frame {
	n := len(c.frames)
	if n < cap(c.frames) {
		c.frames = c.frames[:n+1]
	} else {
		c.frames = append(c.frames, frame{})
	}
	return &c.frames[n]
}

func (c *checker) push(e *edge, hidden bool) {
	*c.open() = frame{typ: e.typ, hidden: hidden}
	if !hidden && types[e.typ].simple {
		c.value, c.unbound = "", false
	}
	if attrs := c.s.Attrs(); len(attrs) > 0 && !hidden {
		c.attributes(attrs, e.nillable)
	}
}

// attributes judges those of the element that was just entered.
func (c *checker) attributes(attrs []soap.Attr, nillable bool) {
	top := &c.frames[len(c.frames)-1]
	free := top.of().attributes
	for _, a := range attrs {
		switch {
		case a.Name == nilName:
			value := a.Value
			if value != "true" {
				value = strings.Trim(value, whiteSpace)
			}
			isTrue := value == "true" || value == "1"
			switch {
			case !isTrue && value != "false" && value != "0":
				c.violation("nil", "invalid xsi:nil value", c.place())
			case !nillable:
				c.violation("nil", "element is not nillable", c.place())
			default:
				top.nilled = isTrue
			}
		case c.strict && a.Name.Space != soap.XSI && free != "##any" && (free == "" || free != a.Name.Space):
			c.violation("attribute", "an attribute is not allowed", a.From)
		}
	}
}

// lax enters an element that stands where any may.
func (c *checker) lax(name soap.Name) {
	top := &c.frames[len(c.frames)-1]
	top.state = top.at().lax
	for i := range globals {
		if e := &globals[i]; e.local == name.Local && e.space == name.Space {
			c.push(e, false)
			return
		}
	}
	// Without a declaration there is nobody to say whether it may be nil: its attributes are as free as its content.
	*c.open() = frame{typ: typeAnyType}
}

const whiteSpace = " \t\r\n"

// text judges the current text.
func (c *checker) text(text string) {
	top := &c.frames[len(c.frames)-1]
	typ := top.of()
	switch {
	case top.hidden:
	case top.nilled:
		if text != "" {
			c.notEmpty()
		}
	case typ.simple:
		if typ.value != anyText {
			c.part(typ.value, text)
		}
	case !typ.mixed && !isBlank(text):
		from, _ := c.s.Span()
		c.violation("text", "character data is not allowed", from+firstVisible(text))
	}
}

// blank judges white space that was passed over before a tag.
func (c *checker) blank() {
	if top := &c.frames[len(c.frames)-1]; top.nilled || top.of().simple {
		c.text(" ")
	}
}

// takesAny reports whether any text may stand in the current element.
func (c *checker) takesAny() bool {
	top := &c.frames[len(c.frames)-1]
	typ := top.of()
	return top.hidden || typ.simple && typ.value == anyText && !top.nilled
}

// part adds to the value of a simple type that is judged when its element ends.
func (c *checker) part(kind valueKind, text string) {
	const longest = 1 << 10 // of a value, white space around it aside
	if len(c.value)+len(text) > longest {
		c.value, text = collapse(c.value), collapse(text)
	}
	if len(c.value) <= longest {
		c.value += text
	}
	if prefix, _, found := strings.Cut(strings.TrimLeft(c.value, whiteSpace), ":"); found && kind == aQName {
		_, declared := c.s.Namespace(prefix)
		c.unbound = !declared
	}
}

// collapse makes one blank of each run of white space.
func collapse(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; strings.IndexByte(whiteSpace, c) < 0 {
			b.WriteByte(c)
		} else if i == 0 || strings.IndexByte(whiteSpace, text[i-1]) < 0 {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// cut says that something in the current element was taken out of the schema's sight, which sees blanks instead.
func (c *checker) cut() { c.text(" ") }

// notEmpty notes content of a nil element.
func (c *checker) notEmpty() {
	top := &c.frames[len(c.frames)-1]
	if top.hidden || !top.nilled || top.told {
		return
	}
	top.told = true
	from, _ := c.s.Span()
	c.violation("nil", "nilled element must be empty", from)
}

// judges reports whether the content of the current element is judged.
func (c *checker) judges() bool {
	top := &c.frames[len(c.frames)-1]
	return !top.hidden && !top.nilled
}

// inSight reports whether the schema gets to see the current element.
func (c *checker) inSight() bool { return !c.frames[len(c.frames)-1].hidden }

// leave steps out of the element whose end tag is current.
func (c *checker) leave() {
	top := &c.frames[len(c.frames)-1]
	if !top.hidden && !top.nilled {
		switch typ := top.of(); {
		case typ.simple:
			if typ.value != anyText && !c.valid(typ.value) {
				c.violation("facet", "the value is not of the published type", c.place())
			}
		case !typ.states[top.state].accept:
			c.violation("content", "missing required child element", c.place())
		}
	}
	c.frames = c.frames[:len(c.frames)-1]
}

// valid judges the value of a simple type.
func (c *checker) valid(kind valueKind) bool {
	value := strings.Trim(c.value, whiteSpace)
	switch kind {
	case anInt:
		_, err := strconv.ParseInt(value, 10, 32)
		return err == nil
	case aLong:
		_, err := strconv.ParseInt(value, 10, 64)
		return err == nil
	case aBoolean:
		return value == "true" || value == "false" || value == "1" || value == "0"
	case aQName:
		return !c.unbound && soap.IsQName(value)
	}
	return true
}

// unexpected notes an element that may not stand where it does.
func (c *checker) unexpected(name string) {
	from, _ := c.s.Span()
	c.violation("element", "unexpected child element "+shorten(name, longestName), from)
}

// place is where the current tag begins.
func (c *checker) place() int {
	from, _ := c.s.Span()
	return from
}

// violation notes one, at an offset of the document, in the innermost open element.
func (c *checker) violation(rule, msg string, at int) {
	if len(c.found) >= c.most {
		return
	}
	names := make([]string, 0, len(c.frames))
	for i := range c.frames {
		if depth := c.base + i; depth <= c.s.Depth() {
			names = append(names, c.s.Element(depth).Local)
		} else {
			names = append(names, c.s.Name().Local) // its end tag is the current one
		}
	}
	if c.envelope && len(names) > 2 && names[1] == "Body" {
		names = names[2:]
	}
	line, column := c.s.Position(at)
	c.found = append(c.found, Violation{
		Path: shorten(strings.Join(names, "/"), longestName), Line: line, Column: column, Rule: rule, Msg: msg,
	})
}

// head judges what stands before the payload, if there is anything in it that the reader of envelopes does not judge.
func (c *checker) head(document string) {
	var s soap.Scanner
	s.Reset(document, storedLimits(len(document), soap.Limits{}))
	c.s, c.base, c.envelope, c.strict = &s, 1, true, true
	for {
		// The head has been read before, and ends within the Body: there is no other error than that.
		token, err := s.Next()
		if err != nil {
			break
		}
		switch token {
		case soap.Start:
			c.strictly(s.Name())
		case soap.Text:
			c.text(s.Text())
		case soap.End:
			c.leave()
		}
	}
	c.frames, c.envelope, c.strict = c.frames[:0], false, false
}

// strictly enters an element that no decoder has looked at.
func (c *checker) strictly(name soap.Name) {
	if len(c.frames) == 0 {
		for i := range globals {
			if e := &globals[i]; e.local == name.Local && e.space == name.Space {
				c.push(e, false)
			}
		}
		return
	}
	top := &c.frames[len(c.frames)-1]
	switch {
	case top.hidden:
		c.hide()
	case top.nilled:
		c.notEmpty()
		c.hide()
	case c.enter(name):
	case !top.of().simple && top.at().lax >= 0:
		c.lax(name)
	default:
		c.unexpected(name.Local)
		c.hide()
	}
}

// wrongRoot says what is wrong with a payload that no schema declares. Within an envelope the schema lets it pass.
func (m *Message) wrongRoot() string {
	switch {
	case m.Root != rootCallback && m.Root != rootSMS:
		return "the payload is neither CallbackRequest nor SmsCallbackRequest"
	case m.space != Namespace:
		return "the payload is not in namespace " + Namespace
	}
	return ""
}

// atRoot is a violation of the payload as a whole.
func (m *Message) atRoot(rule, msg string) Violation {
	var s soap.Scanner
	s.Reset(m.document, soap.Limits{})
	line, column := s.Position(m.root)
	return Violation{Path: shorten(m.Root, longestName), Line: line, Column: column, Rule: rule, Msg: msg}
}

func isBlank(text string) bool {
	for i := range len(text) {
		if c := text[i]; c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}

// firstVisible is where the first character of a text stands that is no white space, if the text is written as it reads.
func firstVisible(text string) int {
	return len(text) - len(strings.TrimLeft(text, whiteSpace))
}
