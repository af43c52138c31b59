package registration

import (
	"errors"
	"fmt"
	"strings"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
)

// ErrUnreachable is a request without an answer. The platform may have carried it out nevertheless.
var ErrUnreachable = errors.New("the platform cannot be reached")

// ErrAnswer is an answer that is none of the platform's: another format, cut short, too long, or of a shape that is not understood.
var ErrAnswer = errors.New("not an answer of the platform")

func answerError(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrAnswer, fmt.Errorf(format, args...))
}

// answer is what the platform said: the session token of the SOAP header, if there is one, and the payload.
type answer struct {
	token   string
	payload *node
}

// node is an element by its local name. Namespaces and prefixes are not looked at: the platform's pages contradict each other there.
type node struct {
	name     string
	text     string // white space at both ends removed
	children []*node
}

// readAnswer reads an envelope of at most this many bytes. It takes possession of raw.
func readAnswer(raw []byte, charset string, most int) (answer, error) {
	limits := soap.Limits{Bytes: most, Depth: 32, Tokens: 200_000, Text: 64 << 10}
	document, _, err := soap.Decode(raw, charset, limits)
	if err != nil {
		return answer{}, answerError("%w", err)
	}
	var s soap.Scanner
	s.Reset(document, limits)
	env, err := soap.Open(&s)
	if err != nil {
		return answer{}, answerError("%w", err)
	}
	var a answer
	if a.payload, err = readNode(&s); err != nil {
		return answer{}, answerError("%w", err)
	}
	if err := soap.Close(&s, env); err != nil {
		return answer{}, answerError("%w", err)
	}
	s.Reset(document, limits)
	if a.token, err = headerToken(&s); err != nil {
		return answer{}, answerError("%w", err)
	}
	return a, nil
}

// readNode reads the element whose start tag is the current token, to its end. The content of a password is never kept.
func readNode(s *soap.Scanner) (*node, error) {
	n := &node{name: s.Name().Local}
	depth, secret := s.Depth(), strings.Contains(strings.ToLower(n.name), "password")
	var text strings.Builder
	for {
		token, err := s.Next()
		if err != nil {
			return nil, err
		}
		switch token {
		case soap.Text:
			if !secret {
				text.WriteString(s.Text())
			}
		case soap.Start:
			child, err := readNode(s)
			if err != nil {
				return nil, err
			}
			if !secret {
				n.children = append(n.children, child)
			}
		case soap.End:
			if s.Depth() == depth-1 {
				n.text = strings.TrimSpace(text.String())
				return n, nil
			}
		}
	}
}

// headerToken finds the token in the header of a document that was read before.
func headerToken(s *soap.Scanner) (string, error) {
	for {
		token, err := s.Next()
		switch {
		case err != nil:
			return "", err
		case token == soap.EOF, token == soap.Start && s.Depth() == 2 && s.Name().Local == "Body":
			return "", nil
		case token == soap.Start && s.Depth() == 3 && s.Name().Local == "token":
			n, err := readNode(s)
			if err != nil {
				return "", err
			}
			return n.text, nil
		}
	}
}

// find is the first element of this name within n, n included, or nil.
func (n *node) find(name string) *node {
	if strings.EqualFold(n.name, name) {
		return n
	}
	for _, m := range n.children {
		if found := m.find(name); found != nil {
			return found
		}
	}
	return nil
}

// child is a direct child of this name, or nil.
func (n *node) child(name string) *node {
	for _, m := range n.children {
		if strings.EqualFold(m.name, name) {
			return m
		}
	}
	return nil
}

// childText is the text of a direct child, copied out of the document so that it keeps nothing else alive.
func (n *node) childText(name string) string {
	if m := n.child(name); m != nil {
		return strings.Clone(m.text)
	}
	return ""
}

// sessionToken is the token of an answer to LogIn, wherever it stands.
func (a answer) sessionToken() (string, error) {
	token := a.token
	for _, name := range []string{"token", "SessionToken"} { // the latter, which is published, goes before
		if n := a.payload.find(name); n != nil && n.text != "" {
			token = n.text
		}
	}
	const most = 4 << 10
	switch {
	case token == "":
		return "", answerError("LogIn succeeded and brought no SessionToken")
	case len(token) > most:
		return "", answerError("a SessionToken of more than %d bytes", most)
	}
	return strings.Clone(token), nil
}

// registrations lists what an answer to GetCallbackRegistrations holds for an account.
func (a answer) registrations(account string) ([]Registration, error) {
	return a.payload.entries(nil, account)
}

// entries adds the entries within n to a list. An entry is whatever has a ServiceName and a Url; one without a URL holds nothing. What the
// list lacks counts as free, so an element that may be an entry and is not recognised is an error.
func (n *node) entries(list []Registration, account string) ([]Registration, error) {
	service, url := n.child("ServiceName"), n.child("Url")
	switch {
	case service == nil && url == nil:
		return n.entriesBelow(list, account)
	case service == nil || service.text == "":
		return nil, answerError("an entry of the list has no ServiceName")
	case url == nil:
		return nil, answerError("the entry of %q has no Url", bounded(service.text))
	case url.text == "":
		return list, nil
	}
	r := Registration{Account: n.childText("AccountName"), Service: n.childText("ServiceName"), URL: n.childText("Url"),
		Username: n.childText("Username")}
	if r.Account == "" {
		r.Account = account
	}
	if r.Account != account {
		return nil, answerError("account %q in the list of account %q", bounded(r.Account), account)
	}
	return append(list, r), nil
}

func (n *node) entriesBelow(list []Registration, account string) ([]Registration, error) {
	_, service := callback.Lookup(n.text)
	if service || strings.Contains(n.text, "://") {
		return nil, answerError("element %q holds a service or a URL, and is no ServiceName or Url of an entry", bounded(n.name))
	}
	for _, child := range n.children {
		var err error
		if list, err = child.entries(list, account); err != nil {
			return nil, err
		}
	}
	return list, nil
}
