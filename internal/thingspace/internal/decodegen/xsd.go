package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"callbackd/internal/soap"
)

const xsdNamespace = "http://www.w3.org/2001/XMLSchema"

// node is an element of a schema document, with where it stands.
type node struct {
	file     string
	line     int
	name     string // local: every element is XML Schema's own
	attrs    map[string]string
	types    map[string]soap.Name // the names of types among the values of attrs, prefixes resolved
	children []*node
}

func (n *node) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: xs:%s: %s", n.file, n.line, n.name, fmt.Sprintf(format, args...))
}

// parser reads one schema document.
type parser struct {
	file string
	s    soap.Scanner
	root *node
	open []*node
	skip int // the depth of the annotation that is passed over, or 0
}

// parseDocument reads one schema document. Annotations are left out: they say nothing to a validator.
func parseDocument(file string, text []byte) (*node, error) {
	document, _, err := soap.Decode(text, "", soap.Limits{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	p := &parser{file: file}
	p.s.Reset(document, soap.Limits{})
	for {
		token, err := p.s.Next()
		if err == nil && token == soap.EOF {
			return p.root, nil
		}
		if err == nil {
			err = p.token(token)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
}

func (p *parser) token(token soap.Token) error {
	switch {
	case p.skip > 0:
		if token == soap.End && p.s.Depth() < p.skip {
			p.skip = 0
		}
	case token == soap.End:
		p.open = p.open[:len(p.open)-1]
	case token == soap.Text:
		if strings.TrimSpace(p.s.Text()) != "" {
			return p.open[len(p.open)-1].errorf("text is not supported")
		}
	case p.s.Name() == soap.Name{Space: xsdNamespace, Local: "annotation"}:
		p.skip = p.s.Depth()
	default:
		return p.start()
	}
	return nil
}

func (p *parser) start() error {
	from, _ := p.s.Span()
	line, _ := p.s.Position(from)
	n := &node{file: p.file, line: line, name: p.s.Name().Local, attrs: map[string]string{}, types: map[string]soap.Name{}}
	if p.s.Name().Space != xsdNamespace {
		return n.errorf("an element that is not of XML Schema")
	}
	for _, a := range p.s.Attrs() {
		if a.Name.Space != "" {
			return n.errorf("attribute %s is not supported", a.Name)
		}
		n.attrs[a.Name.Local] = a.Value
		if a.Name.Local == "type" || a.Name.Local == "base" {
			prefix, local, found := strings.Cut(a.Value, ":")
			if !found {
				prefix, local = "", a.Value
			}
			space, ok := p.s.Namespace(prefix)
			if !ok && found {
				return n.errorf("prefix %s is not declared", prefix)
			}
			n.types[a.Name.Local] = soap.Name{Space: space, Local: local}
		}
	}
	if len(p.open) == 0 {
		p.root = n
	} else {
		parent := p.open[len(p.open)-1]
		parent.children = append(parent.children, n)
	}
	p.open = append(p.open, n)
	return nil
}

// only refuses attributes that are not listed: what is not supported is never dropped.
func (n *node) only(names ...string) error {
	for name := range n.attrs {
		if !slices.Contains(names, name) {
			return n.errorf("attribute %s is not supported", name)
		}
	}
	return nil
}

// occurs reads minOccurs and maxOccurs; -1 is unbounded.
func (n *node) occurs() (least, most int, err error) {
	least, most = 1, 1
	if text, ok := n.attrs["minOccurs"]; ok {
		if least, err = strconv.Atoi(text); err != nil || least < 0 {
			return 0, 0, n.errorf("minOccurs %q is no number", text)
		}
	}
	if text, ok := n.attrs["maxOccurs"]; ok {
		if text == "unbounded" {
			return least, -1, nil
		}
		if most, err = strconv.Atoi(text); err != nil || most < 0 {
			return 0, 0, n.errorf("maxOccurs %q is no number", text)
		}
	}
	const copies = 32 // which the automaton makes of a particle
	if most < least || most > copies || most == 0 {
		return 0, 0, n.errorf("%d to %d occurrences are not supported: at most %d, or unbounded", least, most, copies)
	}
	return least, most, nil
}
