package registration

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"callbackd/internal/soap"
)

// contract is the namespace of the members of a service's Input, up to the service's name.
const contract = "http://schemas.datacontract.org/2004/07/NPhase.UnifiedWebService.APIs.v2.Contract."

// request is a call of an operation: the service that offers it, and the type that gowsdl generated for it, filled in.
type request struct {
	service string
	message any // a pointer to a struct with XMLName and, if not nil, Input
}

// name is the namespace and the name of the operation's element.
func (r request) name() (space, operation string) {
	field, _ := reflect.TypeOf(r.message).Elem().FieldByName("XMLName")
	space, operation, _ = strings.Cut(field.Tag.Get("xml"), " ")
	return space, operation
}

func (r request) operation() string {
	_, operation := r.name()
	return operation
}

// encode writes the request as the published ones are written. encoding/xml cannot: it would leave out empty members and write the
// others in the operation's namespace, and the platform answers both with DeserializationFailed.
func (r request) encode(token string) ([]byte, error) {
	space, operation := r.name()
	var b bytes.Buffer
	fmt.Fprintf(&b, `<soapenv:Envelope xmlns:soapenv="%s" xmlns:v2="%s" xmlns:nph="%s">`, soap.Namespace11, space, contract+r.service)
	if token == "" {
		b.WriteString(`<soapenv:Header/>`)
	} else {
		b.WriteString(`<soapenv:Header>`)
		if err := element(&b, "v2:token", token); err != nil {
			return nil, err
		}
		b.WriteString(`</soapenv:Header>`)
	}
	b.WriteString(`<soapenv:Body><v2:` + operation + `>`)
	if input := reflect.ValueOf(r.message).Elem().FieldByName("Input"); !input.IsNil() {
		b.WriteString(`<v2:Input>`)
		for field, value := range input.Elem().Fields() {
			member, _, _ := strings.Cut(field.Tag.Get("xml"), ",")
			if err := element(&b, "nph:"+member, value.String()); err != nil {
				return nil, err
			}
		}
		b.WriteString(`</v2:Input>`)
	}
	b.WriteString(`</v2:` + operation + `></soapenv:Body></soapenv:Envelope>`)
	return b.Bytes(), nil
}

// element writes an element, an empty one too. An error names it and not its text, which may be a password.
func element(b *bytes.Buffer, name, text string) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("%s is not UTF-8, and cannot be sent", strings.TrimPrefix(name, "nph:"))
	}
	if i := strings.IndexFunc(text, notXML); i >= 0 {
		r, _ := utf8.DecodeRuneInString(text[i:])
		return fmt.Errorf("%s holds the character %U, which XML cannot carry", strings.TrimPrefix(name, "nph:"), r)
	}
	b.WriteString("<" + name + ">")
	_ = xml.EscapeText(b, []byte(text)) // a Buffer's writes do not fail
	b.WriteString("</" + name + ">")
	return nil
}

// notXML reports whether a character has no place in XML 1.0, not even as a reference.
func notXML(r rune) bool {
	return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff
}
