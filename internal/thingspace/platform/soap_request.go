package platform

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"

	"callbackd/internal/soap"
)

// requestLimits bound a request.
var requestLimits = soap.Limits{Bytes: 256 << 10, Depth: 16, Tokens: 1000, Text: 16 << 10}

// checkAction wants the operation's action, or none. It is quoted, or not.
func checkAction(lines []string, service, operation string) error {
	if len(lines) > 1 {
		return actionNotSupported("SOAPAction stands more than once.")
	}
	given := strings.Trim(strings.Join(lines, ""), `" `)
	if want := namespace + "/I" + service + "/" + operation; given != "" && given != want {
		return actionNotSupported("SOAPAction is not that of the operation in the Body: " + want)
	}
	return nil
}

// read reads a request as strictly as the platform is said to: every member of Input has to be there, in its order and its namespace.
func (v soapService) read(raw []byte, charset string) (*call, error) {
	document, _, err := soap.Decode(raw, charset, requestLimits)
	if err != nil {
		return nil, &badRequest{http.StatusBadRequest, err.Error()}
	}
	var s soap.Scanner
	s.Reset(document, requestLimits)
	envelope, err := soap.Open(&s)
	switch {
	case errors.Is(err, soap.ErrVersionMismatch), err == nil && envelope.Version == soap.V12:
		return nil, &envelopeFault{soap.VersionMismatch, "The envelope is not of SOAP 1.1."}
	case errors.Is(err, soap.ErrMustUnderstand):
		return nil, &envelopeFault{soap.MustUnderstand, err.Error()}
	case err != nil:
		return nil, &badRequest{http.StatusBadRequest, err.Error()}
	case envelope.Version == soap.Bare:
		return nil, &badRequest{http.StatusBadRequest, "there is no envelope"}
	}
	name := s.Name()
	i := slices.IndexFunc(v.operations, func(o operation) bool { return name == soap.Name{Space: namespace, Local: o.name} })
	if i < 0 {
		return nil, actionNotSupported(v.name + " has no operation of the name and namespace in the Body.")
	}
	c := &call{operation: v.operations[i]}
	misread := c.readOperation(&s, contract(v.name))
	if misread == nil {
		err = soap.Close(&s, envelope)
	} else {
		err = drain(&s)
	}
	if err != nil { // which is no XML counts first
		return nil, &badRequest{http.StatusBadRequest, err.Error()}
	}
	c.token = headerToken(document)
	return c, misread
}

// drain reads on to the end, for what is not well-formed further on is not read at all.
func drain(s *soap.Scanner) error {
	for {
		if token, err := s.Next(); err != nil || token == soap.EOF {
			return err
		}
	}
}

// envelopeFault refuses what stands around a call.
type envelopeFault struct {
	code soap.Code
	text string
}

func (f *envelopeFault) Error() string { return f.text }

// readOperation reads from the operation's start tag to its end tag.
func (c *call) readOperation(s *soap.Scanner, space string) error {
	if c.members == nil {
		return skip(s)
	}
	input := soap.Name{Space: namespace, Local: "Input"}
	if found, err := nextElement(s); err != nil || !found || s.Name() != input {
		return cmp.Or(err, deserializationFailed("%s begins with the element Input of the namespace %s", c.name, namespace))
	}
	c.input = make(map[string]string)
	for _, member := range c.members {
		found, err := nextElement(s)
		if err != nil || !found || s.Name() != (soap.Name{Space: space, Local: member}) {
			return cmp.Or(err, deserializationFailed("Input has %s of the namespace %s, in this order; %s is missing or not in its place",
				strings.Join(c.members, ", "), space, member))
		}
		if c.input[member], err = text(s); err != nil {
			return err
		}
	}
	for _, after := range []string{"the members of Input", "Input"} {
		if found, err := nextElement(s); err != nil || found {
			return cmp.Or(err, deserializationFailed("%s: an element follows %s", c.name, after))
		}
	}
	return nil
}

// nextElement reads to the next start tag, or to the end tag of the element around: then it reports false.
func nextElement(s *soap.Scanner) (bool, error) {
	for {
		token, err := s.Next()
		switch {
		case err != nil:
			return false, err
		case token == soap.Text && strings.Trim(s.Text(), " \t\r\n") != "":
			return false, deserializationFailed("text where only elements may stand")
		case token != soap.Text:
			return token == soap.Start, nil
		}
	}
}

// text is the content of the current element, empty if it is nil. It has no elements.
func text(s *soap.Scanner) (string, error) {
	name := s.Name().Local
	var b strings.Builder
	for {
		token, err := s.Next()
		switch {
		case err != nil:
			return "", err
		case token == soap.Start:
			return "", deserializationFailed("an element within %s, which is a text", name)
		case token == soap.End:
			return b.String(), nil
		}
		b.WriteString(s.Text())
	}
}

// headerToken is the session token in the Header of a document that was read before, or empty.
func headerToken(document string) string {
	var s soap.Scanner
	s.Reset(document, requestLimits)
	for {
		token, err := s.Next()
		switch {
		case err != nil, token == soap.EOF, token == soap.Start && s.Depth() == 2 && s.Name().Local == "Body":
			return ""
		case token == soap.Start && s.Depth() == 3 && s.Name() == soap.Name{Space: namespace, Local: "token"}:
			value, _ := text(&s) // one with elements in it is no token
			return strings.Trim(value, " \t\r\n")
		}
	}
}
