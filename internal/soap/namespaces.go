package soap

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
		return s.limitErrorf(at, s.limits.Namespaces, "namespace declarations in scope")
	}
	s.ns = append(s.ns, binding{prefix, space})
	if prefix == "" || prefix == "xsi" {
		s.rebind()
	}
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

// rebind notes what plain tags stand for, after the namespaces in scope have changed.
func (s *Scanner) rebind() {
	s.space, _ = s.lookup("")
	s.spaceAt = s.find("")
	space, _ := s.lookup("xsi")
	s.xsi = space == XSI
}

// find is the place of the innermost declaration of a prefix, or of "" for the default namespace, in s.ns, or -1.
func (s *Scanner) find(prefix string) int {
	for i := len(s.ns) - 1; i >= 0; i-- {
		if s.ns[i].prefix == prefix {
			return i
		}
	}
	return -1
}

// lookup is the namespace bound to a prefix, or to "" for the default one, which need not be declared.
func (s *Scanner) lookup(prefix string) (string, bool) {
	if i := s.find(prefix); i >= 0 {
		return s.ns[i].space, true
	}
	return "", false
}

// Namespace is the one that a prefix stands for at the current token. The prefix "" stands for the default one, which need not be declared.
func (s *Scanner) Namespace(prefix string) (space string, declared bool) { return s.lookup(prefix) }
