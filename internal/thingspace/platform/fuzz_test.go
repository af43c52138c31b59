package platform

import (
	"encoding/xml"
	"maps"
	"os"
	"testing"
)

// FuzzReadRequest: whatever arrives is read or refused, and what is read is what encoding/xml, which minds namespaces but no order,
// finds in it too.
func FuzzReadRequest(f *testing.F) {
	for _, name := range []string{"LogIn-request.xml", "UnregisterCallback-request.xml", "StartSmsCallback-request.xml", "StartSmsCallback-response.xml"} {
		text, err := os.ReadFile("../../../schemas/testdata/published/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><RegisterCallback xmlns="` + namespace + `"><Input xmlns:c="` +
		contract("CallbackRegistrationService") + `"><c:AccountName>a<!-- b -->c</c:AccountName><c:ServiceName/><c:Url><![CDATA[<]]>&#x41;</c:Url>` +
		`<c:Username xmlns:i="` + instance + `" i:nil="true"/><c:Password> x </c:Password></Input></RegisterCallback></e:Body></e:Envelope>`))
	s, err := New(Options{Accounts: []Account{{"a", Credentials{"u", "p"}}}})
	if err != nil {
		f.Fatal(err)
	}
	services := []soapService{s.sessionService(), s.registrationService(), s.connectivityService()}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, service := range services {
			c, err := service.read(raw, "utf-8")
			if err != nil || c.members == nil {
				continue
			}
			if want, ok := oracle(t, raw, service.name, c.name); ok && !maps.Equal(c.input, want) {
				t.Errorf("%s reads %q, encoding/xml %q", c.name, c.input, want)
			}
		}
	})
}

// oracle reads the members of Input with encoding/xml.
func oracle(t *testing.T, raw []byte, service, operation string) (map[string]string, bool) {
	t.Helper()
	var envelope struct {
		Body struct {
			Operation struct {
				XMLName xml.Name
				Input   struct {
					Members []struct {
						XMLName xml.Name
						Text    string `xml:",chardata"`
					} `xml:",any"`
				} `xml:"http://nphase.com/unifiedwebservice/v2 Input"`
			} `xml:",any"`
		} `xml:"http://schemas.xmlsoap.org/soap/envelope/ Body"`
	}
	if err := xml.Unmarshal(raw, &envelope); err != nil {
		return nil, false // it knows no encoding but UTF-8
	}
	got := envelope.Body.Operation
	if got.XMLName != (xml.Name{Space: namespace, Local: operation}) {
		t.Errorf("the operation is %v, read as %s", got.XMLName, operation)
	}
	members := make(map[string]string)
	for _, m := range got.Input.Members {
		if m.XMLName.Space == contract(service) {
			members[m.XMLName.Local] = m.Text
		}
	}
	return members, true
}
