package thingspace

import (
	"cmp"
	"slices"
	"strings"

	"callbackd/internal/soap"
)

// Mask stands in the stored bytes where a password stood.
const Mask = "********"

// edit replaces a part of the document in the stored bytes.
type edit struct {
	span
	with string
}

// Stored is the document as it arrived, in UTF-8 without byte order mark, but for two things: the content of every element and
// every attribute named Password, in any letter case, is [Mask], wherever it stands; and an XML declaration that names another
// encoding names UTF-8, so that whoever exports the bytes can read them.
func (m *Message) Stored() []byte {
	size := len(m.document)
	for _, e := range m.edits {
		size += len(e.with) - (e.to - e.from)
	}
	stored := make([]byte, 0, size)
	at := 0
	for _, e := range m.edits {
		stored = append(stored, m.document[at:e.from]...)
		stored = append(stored, e.with...)
		at = e.to
	}
	return append(stored, m.document[at:]...)
}

// isPassword is asked about every name. One that folds to this one is of 8 letters, some of which may take two bytes.
func isPassword(name string) bool {
	return len(name) >= 8 && len(name) <= 10 && strings.EqualFold(name, "Password")
}

// secret marks the content of a Password, of which an empty one needs no mask.
func (m *Message) secret(from, to int) {
	if from < to {
		m.edits = append(m.edits, edit{span{from, to}, Mask})
	}
}

func (m *Message) secretValue(a soap.Attr) {
	quote := strings.IndexAny(m.document[a.From:a.To], `"'`)
	m.secret(a.From+quote+1, a.To-1)
}

// headEdits are the edits of what stands before the payload.
func headEdits(head string, envelope soap.Envelope) []edit {
	var m Message
	m.document = head
	if from, to, ok := declaredEncoding(head); ok && !strings.EqualFold(head[from:to], "utf-8") {
		m.edits = append(m.edits, edit{span{from, to}, "UTF-8"})
	}
	for _, s := range envelope.Secrets {
		m.secret(s[0], s[1])
	}
	if envelope.Annotated && strings.Contains(strings.ToLower(head), "password") {
		m.headAttributes()
	}
	return m.edits
}

// headAttributes adds the values of attributes named Password that stand in no Password.
func (m *Message) headAttributes() {
	var s soap.Scanner
	s.Reset(m.document, storedLimits(len(m.document), soap.Limits{}))
	contents := len(m.edits)
	for {
		// The head has been read before, and ends within the Body: there is no other error than that.
		token, err := s.Next()
		if err != nil {
			break
		}
		if token != soap.Start {
			continue
		}
		for _, a := range s.Attrs() {
			within := func(e edit) bool { return e.from <= a.From && a.To <= e.to }
			if isPassword(a.Name.Local) && !slices.ContainsFunc(m.edits[:contents], within) {
				m.secretValue(a)
			}
		}
	}
	slices.SortFunc(m.edits, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
}

// declaredEncoding delimits the name of the encoding in an XML declaration that has been read before.
func declaredEncoding(document string) (from, to int, ok bool) {
	if len(document) < 6 || document[:5] != "<?xml" || strings.IndexByte(" \t\r\n", document[5]) < 0 {
		return 0, 0, false
	}
	declaration := document[:strings.Index(document, "?>")]
	at := strings.Index(declaration, "encoding")
	if at < 0 {
		return 0, 0, false
	}
	from = at + strings.IndexAny(declaration[at:], `"'`) + 1
	return from, from + strings.IndexByte(declaration[from:], declaration[from-1]), true
}
