package soap

import "strings"

// Envelope is what stands around a payload.
type Envelope struct {
	Version Version
	// Secrets delimits the content of every Password element in the Header, which nobody may store.
	Secrets [][2]int
}

// understood are the namespaces of header blocks that may demand to be understood.
var understood = map[string]bool{
	"http://www.w3.org/2005/08/addressing":                    true,
	"http://schemas.xmlsoap.org/ws/2004/08/addressing":        true,
	"http://schemas.microsoft.com/ws/2005/05/addressing/none": true,
}

// Open reads s from its beginning up to the payload's start tag, which is then the current token. A root element that is no
// Envelope is the payload itself: Version is then [Bare].
func Open(s *Scanner) (Envelope, error) {
	token, err := s.Next()
	if err != nil {
		return Envelope{}, err
	}
	if token != Start {
		return Envelope{}, s.errorf(s.pos, "the document has no element")
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
		e := s.errorf(s.from, "the Envelope is in namespace %s, which is neither SOAP 1.1 nor 1.2", quoteName(name.Space)).(*Error)
		e.Class = ErrVersionMismatch
		return Envelope{}, e
	}
	return env, openBody(s, &env)
}

func openBody(s *Scanner, env *Envelope) error {
	space := s.Name().Space
	headerSeen := false
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
			headerSeen = true
			if err := header(s, env); err != nil {
				return err
			}
		case Name{space, "Body"}:
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
	token, err := s.Next()
	if err == nil && token != EOF {
		err = s.errorf(s.from, "something after the root element")
	}
	return err
}

// nextMarkup reads the next start or end tag; nothing but white space may stand before it.
func nextMarkup(s *Scanner) (Token, error) {
	for {
		token, err := s.Next()
		if err != nil || token != Text {
			return token, err
		}
		if strings.Trim(s.Text(), " \t\r\n") != "" {
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
			if mandatory(s) && !understood[s.Name().Space] {
				e := s.errorf(s.from, "header block %s demands to be understood, and is not", quoteName(s.Name().Local)).(*Error)
				e.Class = ErrMustUnderstand
				return e
			}
		case token == Text && s.Depth() == depth && strings.Trim(s.Text(), " \t\r\n") != "":
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

// mandatory reports whether the current header block is meant for us and demands to be understood.
func mandatory(s *Scanner) bool {
	must := false
	for _, a := range s.Attrs() {
		switch {
		case a.Name.Space != Namespace11 && a.Name.Space != Namespace12:
		case a.Name.Local == "mustUnderstand":
			v := strings.Trim(a.Value, " ")
			must = v == "1" || v == "true"
		case a.Name.Local == "actor" || a.Name.Local == "role":
			switch a.Value {
			case "", "http://schemas.xmlsoap.org/soap/actor/next", Namespace12 + "/role/next", Namespace12 + "/role/ultimateReceiver":
			default:
				return false
			}
		}
	}
	return must
}
