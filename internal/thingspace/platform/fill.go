package platform

import (
	"bytes"
	"errors"
	"strings"

	"callbackd/internal/soap"
)

// ErrUnwritable says that a text holds a character that XML has no way to carry.
var ErrUnwritable = errors.New("a character that XML cannot carry")

// longestMessage bounds what is read of one message.
const longestMessage = 64 << 20

// Fill puts credentials into a message, and a fresh RequestId where it has one and requestID is not empty. Elements that are not
// there are not added. Everything else stays as it is, but in UTF-8, with a byte order mark if there was one of UTF-8. Its errors quote no
// credentials.
func Fill(message []byte, c Credentials, requestID string) ([]byte, error) {
	return rewrite(message, func(s *soap.Scanner, path []string) (string, bool) {
		if len(path) != 1 {
			return "", false
		}
		switch path[0] {
		case "Username":
			return c.Username, true
		case "Password":
			return c.Password, true
		case "RequestId":
			return requestID, requestID != "" && !s.Nil()
		}
		return "", false
	})
}

// rewrite replaces the content of elements. value is asked for each element below the payload's root, with its path from there.
func rewrite(message []byte, value func(s *soap.Scanner, path []string) (string, bool)) ([]byte, error) {
	limits := soap.Limits{Bytes: longestMessage}
	document, _, err := soap.Decode(append([]byte{}, message...), "", limits)
	if err != nil {
		return nil, err
	}
	var s soap.Scanner
	s.Reset(document, limits)
	envelope, err := soap.Open(&s)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	if bytes.HasPrefix(message, []byte(byteOrderMark)) {
		b.WriteString(byteOrderMark)
	}
	at := undeclared(&b, document)
	var path []string
	for root := s.Depth(); s.Depth() >= root; {
		token, err := s.Next()
		if err != nil {
			return nil, err
		}
		switch token {
		case soap.End:
			path = path[:max(0, len(path)-1)]
			continue
		case soap.Start:
			path = append(path, s.Name().Local)
		default:
			continue
		}
		text, replace := value(&s, path)
		if !replace {
			continue
		}
		if err := writable(text); err != nil {
			return nil, err
		}
		from, to := s.Span()
		b.WriteString(document[at:from])
		replaceContent(&b, &s, document[from:to], text)
		if err := skip(&s); err != nil {
			return nil, err
		}
		path = path[:len(path)-1]
		_, at = s.Span()
	}
	if err := soap.Close(&s, envelope); err != nil {
		return nil, err
	}
	b.WriteString(document[at:])
	return []byte(b.String()), nil
}

// undeclared begins the rewritten document, which is in UTF-8 whatever its XML declaration says, and returns where to go on.
func undeclared(b *strings.Builder, document string) int {
	if after, found := strings.CutPrefix(document, "<?xml"); !found || strings.TrimLeft(after, " \t\r\n") == after {
		return 0
	}
	b.WriteString(declaration)
	return strings.Index(document, "?>") + len("?>")
}

// replaceContent writes the element whose start tag is current, with its attributes, xsi:nil aside, and another content.
func replaceContent(b *strings.Builder, s *soap.Scanner, tag, text string) {
	from, _ := s.Span()
	at := 0
	for _, a := range s.Attrs() {
		if a.Name == (soap.Name{Space: soap.XSI, Local: "nil"}) {
			b.WriteString(tag[at : a.From-from])
			at = a.To - from
		}
	}
	rest := strings.TrimSuffix(tag[at:], ">")
	b.WriteString(strings.TrimSuffix(rest, "/") + ">" + escape(text) + "</" + tag[1:strings.IndexAny(tag, " \t\r\n/>")] + ">")
}

// writable refuses a text that would make the message malformed.
func writable(text string) error {
	if strings.ToValidUTF8(text, "") != text {
		return ErrUnwritable
	}
	for _, r := range text {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == '\ufffe' || r == '\uffff' {
			return ErrUnwritable
		}
	}
	return nil
}

// skip reads to the end of the current element.
func skip(s *soap.Scanner) error {
	for depth := s.Depth(); s.Depth() >= depth; {
		if _, err := s.Next(); err != nil {
			return err
		}
	}
	return nil
}
