package main

import (
	"fmt"
	"slices"
)

// schema is what the documents declare together.
type schema struct {
	types   []*schemaType
	byName  map[[2]string]*schemaType // by namespace and name
	globals []*element
}

// schemaType is a simple or complex type.
type schemaType struct {
	space, name string
	at          *node
	value       string // of a simple type or simple content: the kind of its values
	mixed       bool
	attributes  string // the namespace of attributes that may stand there: "", "##any", or a namespace
	content     *particle
	index       int

	states []state
}

// element is a declaration.
type element struct {
	space, local string
	nillable     bool
	typ          *schemaType
	at           *node
	once         bool // within an open list, the first that is filled is known; the others are extensions
}

// particle is an element, a wildcard, or a group of particles.
type particle struct {
	kind        string // "element", "any", "sequence", "choice"
	least, most int
	element     *element
	members     []*particle
	at          *node
}

// state is one of a content model's: which elements may come next.
type state struct {
	edges  []edge
	lax    int // the state after an element that nobody declared, or -1
	accept bool
}

type edge struct {
	*element
	next int
}

// values are the simple types that are supported, and the kind of check that each needs.
var values = map[string]string{
	"string": "anyText", "anyURI": "anyText", "int": "anInt", "long": "aLong", "boolean": "aBoolean", "QName": "aQName",
}

func compileSchema(documents []*node) (*schema, error) {
	s := &schema{byName: map[[2]string]*schemaType{}}
	anyType := &schemaType{name: "anyType", mixed: true, attributes: "##any",
		content: &particle{kind: "any", least: 0, most: -1}}
	s.add(anyType)
	type pending struct {
		t      *schemaType
		at     *node
		target string
	}
	var work []pending
	for _, root := range documents {
		if root.name != "schema" {
			return nil, root.errorf("a schema document begins with xs:schema")
		}
		if err := root.only("targetNamespace", "elementFormDefault", "attributeFormDefault", "version"); err != nil {
			return nil, err
		}
		if root.attrs["elementFormDefault"] != "qualified" {
			return nil, root.errorf("elementFormDefault other than qualified is not supported")
		}
		target := root.attrs["targetNamespace"]
		for _, n := range root.children {
			if n.name != "complexType" {
				continue
			}
			name := n.attrs["name"]
			if name == "" || s.byName[[2]string{target, name}] != nil {
				return nil, n.errorf("type %q has no name, or one that is taken", name)
			}
			t := &schemaType{space: target, name: name, at: n}
			s.add(t)
			work = append(work, pending{t, n, target})
		}
	}
	for _, w := range work {
		if err := s.complexType(w.t, w.at, w.target); err != nil {
			return nil, err
		}
	}
	for _, root := range documents {
		for _, n := range root.children {
			switch n.name {
			case "complexType":
			case "element":
				e, err := s.element(n, root.attrs["targetNamespace"], true)
				if err != nil {
					return nil, err
				}
				s.globals = append(s.globals, e)
			default:
				return nil, n.errorf("not supported here")
			}
		}
	}
	return s, nil
}

func (s *schema) add(t *schemaType) {
	t.index = len(s.types)
	s.types = append(s.types, t)
	if t.name != "" {
		s.byName[[2]string{t.space, t.name}] = t
	}
}

func (s *schema) complexType(t *schemaType, n *node, target string) error {
	if err := n.only("name", "mixed"); err != nil {
		return err
	}
	t.mixed = n.attrs["mixed"] == "true" || n.attrs["mixed"] == "1"
	t.content = &particle{kind: "sequence", least: 1, most: 1, at: n}
	for i, child := range n.children {
		switch {
		case (child.name == "sequence" || child.name == "choice") && i == 0:
			p, err := s.particle(child, target)
			if err != nil {
				return err
			}
			t.content = p
		case child.name == "simpleContent" && len(n.children) == 1:
			return s.simpleContent(t, child)
		case child.name == "anyAttribute" && i == len(n.children)-1:
			if err := t.anyAttribute(child); err != nil {
				return err
			}
		default:
			return child.errorf("not supported in a complexType, or not at this place")
		}
	}
	return nil
}

func (s *schema) simpleContent(t *schemaType, n *node) error {
	t.content = nil
	if len(n.children) != 1 || n.children[0].name != "extension" {
		return n.errorf("only an extension is supported in it")
	}
	extension := n.children[0]
	if err := extension.only("base"); err != nil {
		return err
	}
	base, err := s.named(extension, "base")
	if err != nil {
		return err
	}
	if t.value = base.value; t.value == "" {
		return extension.errorf("base %s is not a simple type", extension.attrs["base"])
	}
	for _, child := range extension.children {
		if child.name != "anyAttribute" {
			return child.errorf("not supported in an extension")
		}
		if err := t.anyAttribute(child); err != nil {
			return err
		}
	}
	return nil
}

func (t *schemaType) anyAttribute(n *node) error {
	if err := n.only("namespace", "processContents"); err != nil {
		return err
	}
	if n.attrs["processContents"] != "lax" || len(n.children) > 0 {
		return n.errorf("processContents other than lax is not supported")
	}
	if t.attributes = n.attrs["namespace"]; t.attributes == "" {
		t.attributes = "##any"
	}
	if t.attributes[0] == '#' && t.attributes != "##any" {
		return n.errorf("namespace %s is not supported", t.attributes)
	}
	return nil
}

func (s *schema) particle(n *node, target string) (*particle, error) {
	least, most, err := n.occurs()
	if err != nil {
		return nil, err
	}
	p := &particle{kind: n.name, least: least, most: most, at: n}
	switch n.name {
	case "sequence", "choice":
		if err := n.only("minOccurs", "maxOccurs"); err != nil {
			return nil, err
		}
		for _, child := range n.children {
			member, err := s.particle(child, target)
			if err != nil {
				return nil, err
			}
			p.members = append(p.members, member)
		}
		if n.name == "choice" && len(p.members) == 0 {
			return nil, n.errorf("an empty choice is not supported")
		}
	case "any":
		if err := n.only("namespace", "processContents", "minOccurs", "maxOccurs"); err != nil {
			return nil, err
		}
		if n.attrs["processContents"] != "lax" {
			return nil, n.errorf("processContents other than lax is not supported")
		}
		if space := n.attrs["namespace"]; space != "" && space != "##any" {
			return nil, n.errorf("namespace %s is not supported", space)
		}
	case "element":
		if p.element, err = s.element(n, target, false); err != nil {
			return nil, err
		}
	default:
		return nil, n.errorf("not supported here")
	}
	return p, nil
}

func (s *schema) element(n *node, target string, global bool) (*element, error) {
	allowed := []string{"name", "type", "nillable", "minOccurs", "maxOccurs", "form"}
	if global {
		allowed = allowed[:3]
	}
	if err := n.only(allowed...); err != nil {
		return nil, err
	}
	e := &element{space: target, local: n.attrs["name"], at: n}
	if e.local == "" {
		return nil, n.errorf("an element without a name is not supported")
	}
	switch n.attrs["form"] {
	case "", "qualified":
	case "unqualified":
		e.space = ""
	default:
		return nil, n.errorf("form %q is not supported", n.attrs["form"])
	}
	switch n.attrs["nillable"] {
	case "", "false":
	case "true":
		e.nillable = true
	default:
		return nil, n.errorf("nillable is true or false")
	}
	var err error
	switch {
	case n.attrs["type"] != "" && len(n.children) == 0:
		e.typ, err = s.named(n, "type")
	case n.attrs["type"] == "" && len(n.children) == 1 && n.children[0].name == "complexType":
		e.typ = &schemaType{at: n.children[0]}
		s.add(e.typ)
		err = s.complexType(e.typ, n.children[0], target)
	default:
		return nil, n.errorf("an element has either a type or one xs:complexType in it; nothing else is supported")
	}
	return e, err
}

// named finds a type by the name in an attribute. Those of XML Schema are made when they are first asked for.
func (s *schema) named(n *node, attribute string) (*schemaType, error) {
	text, space, local := n.attrs[attribute], n.types[attribute].Space, n.types[attribute].Local
	if space != xsdNamespace {
		if t := s.byName[[2]string{space, local}]; t != nil && t.name != "anyType" {
			return t, nil
		}
		return nil, n.errorf("type %s is not declared, or not supported", text)
	}
	if local == "anyType" {
		return s.types[0], nil
	}
	kind, ok := values[local]
	if !ok {
		return nil, n.errorf("type %s is not supported", text)
	}
	if t := s.byName[[2]string{space, local}]; t != nil {
		return t, nil
	}
	t := &schemaType{space: space, name: local, value: kind}
	s.add(t)
	return t, nil
}

// declared are the elements that t's content names, each name once.
func (t *schemaType) declared() (list []*element, err error) {
	var walk func(p *particle) error
	walk = func(p *particle) error {
		if p.element != nil {
			i := slices.IndexFunc(list, func(e *element) bool { return e.local == p.element.local })
			switch {
			case i < 0:
				list = append(list, p.element)
			case list[i].typ != p.element.typ || list[i].nillable != p.element.nillable:
				return p.at.errorf("%s stands here with another type than before in the same content", p.element.local)
			}
		}
		for _, member := range p.members {
			if err := walk(member); err != nil {
				return err
			}
		}
		return nil
	}
	if t.content != nil {
		err = walk(t.content)
	}
	return list, err
}

// automaton turns a content model into states, one for each place at which an element may have been read (Glushkov's construction).
// XML Schema asks that the next element never leaves two to choose from; such a model is refused.
func (t *schemaType) automaton() error {
	if t.content == nil {
		return nil
	}
	b := &builder{}
	f := b.build(t.content)
	t.states = make([]state, 1+len(b.places))
	follow := append([][]int{f.first}, b.follow...)
	for i, next := range follow {
		st := state{lax: -1, accept: f.nullable}
		if i > 0 {
			st.accept = slices.Contains(f.last, i-1)
		}
		for _, place := range next {
			p := b.places[place]
			if p.kind == "any" {
				if st.lax >= 0 && st.lax != place+1 || len(st.edges) > 0 && !st.edges[0].once {
					return t.competing(p)
				}
				st.lax = place + 1
				continue
			}
			if st.lax >= 0 && !p.element.once {
				return t.competing(p)
			}
			if i := slices.IndexFunc(st.edges, func(e edge) bool { return e.local == p.element.local && e.space == p.element.space }); i >= 0 {
				if st.edges[i].next != place+1 {
					return t.competing(p)
				}
				continue
			}
			st.edges = append(st.edges, edge{p.element, place + 1})
		}
		t.states[i] = st
	}
	return nil
}

func (t *schemaType) competing(p *particle) error {
	if p.at == nil {
		return fmt.Errorf("type %s: its content is ambiguous", t.name)
	}
	return p.at.errorf("in type %s, what comes here is not decided by its name alone (unique particle attribution)", t.name)
}

type builder struct {
	places []*particle
	follow [][]int
}

type fragment struct {
	first, last []int
	nullable    bool
}

func (b *builder) build(p *particle) fragment {
	var f fragment
	switch {
	case p.most < 0:
		f = b.once(p)
		b.link(f.last, f.first) // again and again
		for range p.least - 1 {
			f = b.join(b.once(p), f)
		}
		f.nullable = f.nullable || p.least == 0
	default:
		// From the last to the first, so that each optional copy stands within the one before it.
		f = fragment{nullable: true}
		for i := p.most; i > 0; i-- {
			f = b.join(b.once(p), f)
			f.nullable = f.nullable || i > p.least
		}
	}
	return f
}

func (b *builder) once(p *particle) fragment {
	switch p.kind {
	case "sequence":
		f := fragment{nullable: true}
		for _, member := range p.members {
			f = b.join(f, b.build(member))
		}
		return f
	case "choice":
		var f fragment
		for _, member := range p.members {
			g := b.build(member)
			f.first, f.last = append(f.first, g.first...), append(f.last, g.last...)
			f.nullable = f.nullable || g.nullable
		}
		return f
	}
	b.places, b.follow = append(b.places, p), append(b.follow, nil)
	place := len(b.places) - 1
	return fragment{first: []int{place}, last: []int{place}}
}

func (b *builder) join(f, g fragment) fragment {
	b.link(f.last, g.first)
	joined := fragment{first: slices.Clone(f.first), last: slices.Clone(g.last), nullable: f.nullable && g.nullable}
	if f.nullable {
		joined.first = append(joined.first, g.first...)
	}
	if g.nullable {
		joined.last = append(slices.Clone(f.last), joined.last...)
	}
	return joined
}

func (b *builder) link(from, to []int) {
	for _, i := range from {
		for _, j := range to {
			if !slices.Contains(b.follow[i], j) {
				b.follow[i] = append(b.follow[i], j)
			}
		}
	}
}
