package soap

import "strings"

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
		if s.pos == 0 {
			return s.errorf(s.pos, "an XML declaration without a version, or not in lower case")
		}
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

// beginsDeclaration reports whether document begins with an XML declaration, and not with <?xml-stylesheet or the like.
func beginsDeclaration(document string) bool {
	return strings.HasPrefix(document, "<?xml") && len(document) > len("<?xml") && isSpace(document[len("<?xml")])
}

// declaration reads <?xml version="1.0" encoding="..." standalone="..."?>. The encoding was dealt with in [Decode].
func (s *Scanner) declaration() error {
	s.pos = len("<?xml")
	version, at, err := s.pseudoAttribute("version")
	switch {
	case err != nil:
		return err
	case version == "":
		return s.errorf(at, "the XML declaration must begin with its version")
	case version != "1.0":
		return s.errorf(at, "the version of the XML declaration is not 1.0, the one that is read")
	}
	encoding, at, err := s.pseudoAttribute("encoding")
	if err != nil {
		return err
	}
	if encoding != "" && !isEncodingName(encoding) {
		return s.errorf(at, "encoding of the XML declaration is not the name of an encoding")
	}
	standalone, at, err := s.pseudoAttribute("standalone")
	if err != nil {
		return err
	}
	if standalone != "" && standalone != "yes" && standalone != "no" {
		return s.errorf(at, "standalone of the XML declaration must be yes or no")
	}
	s.skipSpace()
	if !strings.HasPrefix(s.doc[s.pos:], "?>") {
		return s.errorf(s.pos, "unexpected text in the XML declaration")
	}
	s.pos += len("?>")
	return nil
}

// pseudoAttribute reads one member of the XML declaration, whose value begins at at, or returns "" and stays where it is. The value
// stands for itself: unlike an attribute's it has no references.
func (s *Scanner) pseudoAttribute(name string) (value string, at int, err error) {
	start := s.pos
	s.skipSpace()
	if s.pos == start || !strings.HasPrefix(s.doc[s.pos:], name) {
		s.pos = start
		return "", start, nil
	}
	s.pos += len(name)
	s.skipSpace()
	if s.pos == len(s.doc) || s.doc[s.pos] != '=' {
		return "", 0, s.errorf(s.pos, "%s of the XML declaration has no value", name)
	}
	s.pos++
	s.skipSpace()
	if s.pos == len(s.doc) || s.doc[s.pos] != '"' && s.doc[s.pos] != '\'' {
		return "", 0, s.errorf(s.pos, "%s of the XML declaration must be quoted", name)
	}
	quote := s.doc[s.pos : s.pos+1]
	at = s.pos + 1
	value, _, found := strings.Cut(s.doc[at:], quote)
	if !found || value == "" {
		return "", 0, s.errorf(at, "%s of the XML declaration is empty, or does not end", name)
	}
	s.pos = at + len(value) + len(quote)
	return value, at, nil
}

// checkRun checks the characters and the length of a comment, CDATA section or processing instruction.
func (s *Scanner) checkRun(start, length int) error {
	if length > s.limits.Text {
		return s.limitErrorf(start, s.limits.Text, "bytes in one text")
	}
	for i := start; i < start+length; i++ {
		if class[s.doc[i]]&plainText == 0 && s.forbidden(i) {
			return s.errorf(i, "character %s is not allowed in XML", s.char(i))
		}
	}
	return nil
}
