package platform

import "strings"

// form is how a message is written, which means nothing.
type form struct {
	prefix, nilled string // of XML Schema's instance namespace, and the attribute that makes an element nil
	leaveOut       bool   // nil elements
	layout         layout
	before         string // the message
}

type layout uint8

// The published samples come in the last three of these; WCF writes the first.
const (
	oneLine layout = iota
	spaced
	lines
	indented
)

func (g *Generator) newForm() form {
	f := form{prefix: "xsi", nilled: "true"}
	if g.quirk(QuirkNilForm, 6) {
		f.prefix = "i"
	}
	if g.quirk(QuirkNilForm, 6) {
		f.nilled = "1"
	}
	// Older releases leave out what newer ones write as nil.
	f.leaveOut = g.quirk(QuirkLeftOut, 8)
	if l := pick(g, []layout{spaced, lines, indented}); g.quirk(QuirkLayout, 3) {
		f.layout = l
	}
	if g.quirk(QuirkByteOrderMark, 6) {
		f.before = byteOrderMark
	}
	if g.quirk(QuirkDeclaration, 6) {
		f.before += declaration
	}
	return f
}

// absent writes an element that has no value.
func (f *form) absent(name string) string {
	if f.leaveOut {
		return ""
	}
	return `<` + name + ` ` + f.prefix + `:nil="` + f.nilled + `"/>`
}

// finish puts a payload into its envelope.
func (g *Generator) finish(payload string) []byte {
	message := `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">` +
		`<s:Body xmlns:` + g.form.prefix + `="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema">` +
		payload + `</s:Body></s:Envelope>`
	return []byte(g.form.before + g.form.layout.apply(message))
}

// apply puts white space between tags that have none. Texts stay as they are: an empty element is one tag.
func (l layout) apply(message string) string {
	switch l {
	case spaced:
		return strings.ReplaceAll(message, "><", "> <")
	case lines:
		return strings.ReplaceAll(message, "><", ">\n<")
	case indented:
		return indent(message)
	}
	return message
}

func indent(message string) string {
	var b strings.Builder
	b.Grow(2 * len(message))
	tags := strings.Split(message, "><") // some with a text and its end tag
	depth := 0
	for i, tag := range tags {
		if strings.HasPrefix(tag, "/") {
			depth--
		}
		if i > 0 {
			b.WriteString(">\n" + strings.Repeat("  ", depth) + "<")
		}
		b.WriteString(tag)
		if !strings.HasPrefix(tag, "/") && !strings.HasSuffix(tag, "/") && !strings.Contains(tag, "</") {
			depth++
		}
	}
	return b.String()
}

// Written before a message.
const (
	byteOrderMark = "\ufeff"
	declaration   = `<?xml version="1.0" encoding="utf-8"?>`
)

// element writes a text as an element.
func element(name, text string) string { return wrap(name, escape(text)) }

// wrap puts an element around what is written.
func wrap(name, content string) string {
	if content == "" {
		return `<` + name + `/>`
	}
	return `<` + name + `>` + content + `</` + name + `>`
}

// escape makes a text an element's content. A carriage return would arrive as a line feed if it were written as it is.
var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#13;").Replace
