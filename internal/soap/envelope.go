package soap

import "strings"

// Envelope is what stands around a payload.
type Envelope struct {
	Version Version
	// Secrets delimits the content of every Password element in the Header, which nobody may store.
	Secrets [][2]int
	// Annotated says that there is more than a bare Envelope and Body: a Header, or an attribute on one of the two.
	Annotated bool
}

// understood reports whether header blocks of a namespace may demand to be understood: those of WS-Addressing, which ask nothing of a
// receiver that answers on the same connection.
func understood(namespace string) bool {
	switch namespace {
	case "http://www.w3.org/2005/08/addressing",
		"http://schemas.xmlsoap.org/ws/2004/08/addressing",
		"http://schemas.microsoft.com/ws/2005/05/addressing/none":
		return true
	}
	return false
}

// Open reads s from its beginning up to the payload's start tag, which is then the current token. A root element that is no
// Envelope is the payload itself: Version is then [Bare].
func Open(s *Scanner) (Envelope, error) {
	if _, err := s.Next(); err != nil { // else it is the root's start tag
		return Envelope{}, err
	}
	var env Envelope
	switch name := s.Name(); {
	case name.Local != "Envelope":
		return Envelope{Version: Bare}, nil
	case name.Space == Namespace11:
		env.Version = V11
	case name.Space == Namespace12:
		env.Version = V12
	default:
		return Envelope{}, s.place(s.from, &Error{Class: ErrVersionMismatch,
			Msg: "the Envelope is in namespace " + quoteName(name.Space) + ", which is neither SOAP 1.1 nor 1.2"})
	}
	err := openBody(s, &env)
	return env, err
}

func openBody(s *Scanner, env *Envelope) error {
	space := s.Name().Space
	headerSeen := false
	env.Annotated = len(s.Attrs()) > 0
	for {
		token, err := nextMarkup(s)
		if err != nil {
			return err
		}
		if token == End {
			return s.errorf(s.from, "the Envelope has no Body")
		}
		switch s.Name() {
		case Name{space, "Header"}:
			if headerSeen {
				return s.errorf(s.from, "a second Header")
			}
			headerSeen, env.Annotated = true, true
			if err := header(s, env); err != nil {
				return err
			}
		case Name{space, "Body"}:
			env.Annotated = env.Annotated || len(s.Attrs()) > 0
			token, err := nextMarkup(s)
			if err == nil && token != Start {
				err = s.errorf(s.from, "the Body is empty")
			}
			return err
		default:
			return s.errorf(s.from, "element %s within Envelope, where only Header and Body may stand", quoteName(s.Name().Local))
		}
	}
}

// Close reads what follows the payload's end tag, which is the current token: nothing but the end.
func Close(s *Scanner, env Envelope) error {
	if env.Version != Bare {
		for _, parent := range []string{"Body", "Envelope"} {
			token, err := nextMarkup(s)
			if err != nil {
				return err
			}
			if token == Start {
				return s.errorf(s.from, "element %s within %s, after the one that may stand there", quoteName(s.Name().Local), parent)
			}
		}
	}
	_, err := s.Next() // after the root's end tag: the end, or an error
	return err
}

// nextMarkup reads the next start or end tag; nothing but white space may stand before it.
func nextMarkup(s *Scanner) (Token, error) {
	for {
		token, err := s.Next()
		if err != nil || token != Text {
			return token, err
		}
		if strings.Trim(s.Text(), whiteSpace) != "" {
			return token, s.errorf(s.from, "text where only elements may stand")
		}
	}
}

// header passes over the header blocks and refuses one that demands to be understood and is not.
func header(s *Scanner, env *Envelope) error {
	depth := s.Depth()
	secretFrom, secretDepth := 0, 0
	for {
		token, err := s.Next()
		if err != nil {
			return err
		}
		switch {
		case token == Start && s.Depth() == depth+1:
			if mandatory(s, env.Version) && !understood(s.Name().Space) {
				return s.place(s.from, &Error{Class: ErrMustUnderstand,
					Msg: "header block " + quoteName(s.Name().Local) + " demands to be understood, and is not"})
			}
		case token == Text && s.Depth() == depth && strings.Trim(s.Text(), whiteSpace) != "":
			return s.errorf(s.from, "text where only elements may stand")
		}
		if token == Start && secretDepth == 0 && strings.EqualFold(s.Name().Local, "Password") {
			_, secretFrom = s.Span()
			secretDepth = s.Depth()
		}
		if token == End && secretDepth > 0 && s.Depth() == secretDepth-1 {
			to, _ := s.Span()
			env.Secrets = append(env.Secrets, [2]int{secretFrom, to})
			secretDepth = 0
		}
		if token == End && s.Depth() == depth-1 {
			return nil
		}
	}
}

// mandatory reports whether the current header block is meant for us and demands to be understood, in the terms of the envelope's
// version: the attributes of the other version mean nothing in it.
func mandatory(s *Scanner, v Version) bool {
	must := false
	for _, a := range s.Attrs() {
		value := strings.Trim(a.Value, whiteSpace)
		switch a.Name {
		case Name{v.namespace(), "mustUnderstand"}:
			must = value == "1" || value == "true"
		case Name{Namespace11, "actor"}:
			if v == V11 && value != "" && value != "http://schemas.xmlsoap.org/soap/actor/next" {
				return false
			}
		case Name{Namespace12, "role"}:
			if v == V12 && value != "" && value != Namespace12+"/role/next" && value != Namespace12+"/role/ultimateReceiver" {
				return false
			}
		}
	}
	return must
}
