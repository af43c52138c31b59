package wsdl_test

import (
	"encoding/xml"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"callbackd/schemas"
	"callbackd/wsdl"
)

// definitions are a WSDL 1.1 document as far as the tests look at it.
type definitions struct {
	XMLName         xml.Name `xml:"http://schemas.xmlsoap.org/wsdl/ definitions"`
	TargetNamespace string   `xml:"targetNamespace,attr"`
	Schemas         []struct {
		Target  string `xml:"targetNamespace,attr"`
		Imports []struct {
			Namespace string `xml:"namespace,attr"`
			Location  string `xml:"schemaLocation,attr"`
		} `xml:"http://www.w3.org/2001/XMLSchema import"`
		Elements []struct {
			Name string `xml:"name,attr"`
		} `xml:"http://www.w3.org/2001/XMLSchema element"`
	} `xml:"types>schema"`
	Messages []struct {
		Name  string `xml:"name,attr"`
		Parts []struct {
			Element string `xml:"element,attr"`
			Type    string `xml:"type,attr"`
		} `xml:"part"`
	} `xml:"message"`
	PortTypes []struct {
		Name       string      `xml:"name,attr"`
		Operations []operation `xml:"operation"`
	} `xml:"portType"`
	Bindings []struct {
		Type string `xml:"type,attr"`
		SOAP struct {
			Style     string `xml:"style,attr"`
			Transport string `xml:"transport,attr"`
		} `xml:"http://schemas.xmlsoap.org/wsdl/soap/ binding"`
		Operations []struct {
			Name string `xml:"name,attr"`
			SOAP struct {
				Action string `xml:"soapAction,attr"`
				Style  string `xml:"style,attr"`
			} `xml:"http://schemas.xmlsoap.org/wsdl/soap/ operation"`
			Uses []struct {
				Use string `xml:"use,attr"`
			} `xml:"input>body"`
			Answers []struct {
				Use string `xml:"use,attr"`
			} `xml:"output>body"`
		} `xml:"operation"`
	} `xml:"binding"`
	Ports []struct {
		Binding string `xml:"binding,attr"`
		Address struct {
			Location string `xml:"location,attr"`
		} `xml:"http://schemas.xmlsoap.org/wsdl/soap/ address"`
	} `xml:"service>port"`
}

type operation struct {
	Name  string `xml:"name,attr"`
	Input struct {
		Message string `xml:"message,attr"`
	} `xml:"input"`
	Output struct {
		Message string `xml:"message,attr"`
	} `xml:"output"`
}

const namespace = "http://nphase.com/unifiedwebservice/v2"

// parse reads a WSDL, to its last byte.
func parse(t *testing.T, text []byte) definitions {
	t.Helper()
	var d definitions
	if err := xml.Unmarshal(text, &d); err != nil {
		t.Fatalf("not well-formed: %v", err)
	}
	return d
}

func file(t *testing.T, name string) definitions {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, text)
}

// TestEveryWSDLIsDocumentLiteral holds each file to one style, one portType, and to references that lead somewhere.
func TestEveryWSDLIsDocumentLiteral(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		portType   string
		operations []string
		action     string
		location   string
	}{
		"callback-listener.wsdl": {"CallbackListener", []string{"CallbackRequest", "SmsCallbackRequest"},
			namespace + "/CallbackListener/", "http://localhost:28200/"},
		"callback-registration.wsdl": {"ICallbackRegistrationService", []string{"RegisterCallback", "GetCallbackRegistrations", "UnregisterCallback"},
			namespace + "/ICallbackRegistrationService/", "https://uws.apps.nphase.com/api/v2/CallbackRegistrationService.svc"},
		"enhanced-connectivity.wsdl": {"IEnhancedConnectivityService", []string{"StartSmsCallback"},
			namespace + "/IEnhancedConnectivityService/", "https://uws.apps.nphase.com/api/v2/EnhancedConnectivityService.svc"},
		"session.wsdl": {"ISessionService", []string{"LogIn", "LogOut"},
			namespace + "/ISessionService/", "https://uws.apps.nphase.com/api/v2/SessionService.svc"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := file(t, name)
			if d.TargetNamespace != namespace {
				t.Errorf("target namespace %s", d.TargetNamespace)
			}
			if len(d.PortTypes) != 1 || len(d.Bindings) != 1 || len(d.Ports) != 1 {
				t.Fatalf("%d portTypes, %d bindings, %d ports; want one of each", len(d.PortTypes), len(d.Bindings), len(d.Ports))
			}
			if got := d.PortTypes[0].Name; got != want.portType || d.Bindings[0].Type != "n:"+got {
				t.Errorf("portType %s bound as %s, want %s", got, d.Bindings[0].Type, want.portType)
			}
			if b := d.Bindings[0].SOAP; b.Style != "document" || b.Transport != "http://schemas.xmlsoap.org/soap/http" {
				t.Errorf("binding is %+v", b)
			}
			if got := d.Ports[0].Address.Location; got != want.location {
				t.Errorf("address %s, want %s", got, want.location)
			}
			d.checkOperations(t, want.operations, want.action)
			d.checkMessages(t)
		})
	}
}

// checkOperations holds portType and binding to the same operations, all of them literal.
func (d definitions) checkOperations(t *testing.T, want []string, action string) {
	t.Helper()
	var offered, bound []string
	for _, o := range d.PortTypes[0].Operations {
		offered = append(offered, o.Name)
	}
	for _, o := range d.Bindings[0].Operations {
		bound = append(bound, o.Name)
		if o.SOAP.Style != "document" || o.SOAP.Action != action+o.Name {
			t.Errorf("%s is bound as %+v", o.Name, o.SOAP)
		}
		if len(o.Uses) != 1 || o.Uses[0].Use != "literal" || len(o.Answers) != 1 || o.Answers[0].Use != "literal" {
			t.Errorf("%s is not literal both ways", o.Name)
		}
	}
	if !slices.Equal(offered, want) || !slices.Equal(bound, want) {
		t.Errorf("offers %v, binds %v, want %v", offered, bound, want)
	}
}

// checkMessages holds each operation to messages that are there, and each message to at most one element.
func (d definitions) checkMessages(t *testing.T) {
	t.Helper()
	unused := map[string]bool{}
	for _, m := range d.Messages {
		unused["n:"+m.Name] = true
		if len(m.Parts) > 1 || len(m.Parts) == 1 && (m.Parts[0].Element == "" || m.Parts[0].Type != "") {
			t.Errorf("message %s does not consist of one element: %+v", m.Name, m.Parts)
		}
	}
	delete(unused, "n:Token") // of the header, which only bindings name
	known := maps.Clone(unused)
	for _, o := range d.PortTypes[0].Operations {
		for _, message := range []string{o.Input.Message, o.Output.Message} {
			if !known[message] {
				t.Errorf("%s: message %q is not there", o.Name, message)
			}
			delete(unused, message)
		}
	}
	if len(unused) > 0 {
		t.Errorf("messages that nobody uses: %v", unused)
	}
}

// TestImportsNameSchemaFiles holds the schemas that gowsdl reads to the embedded ones.
func TestImportsNameSchemaFiles(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"callback-listener.wsdl": schemas.CallbackWSDL, "callback-registration.wsdl": schemas.Registration, "session.wsdl": schemas.Session,
		"enhanced-connectivity.wsdl": schemas.Connectivity,
	} {
		d := file(t, name)
		if len(d.Schemas) != 1 || len(d.Schemas[0].Imports) != 1 {
			t.Fatalf("%s: schemas are %+v, want one with one import", name, d.Schemas)
		}
		if i := d.Schemas[0].Imports[0]; i.Namespace != namespace || i.Location != "../schemas/"+want {
			t.Errorf("%s imports %+v", name, i)
		}
	}
}

// TestListenerStandsAlone: what a listener serves needs nothing else from anywhere.
func TestListenerStandsAlone(t *testing.T) {
	t.Parallel()
	text, err := wsdl.Listener("http://127.0.0.1:28204/")
	if err != nil {
		t.Fatal(err)
	}
	d := parse(t, text)
	if len(d.Schemas) != 1 || d.Schemas[0].Target != namespace || len(d.Schemas[0].Imports) != 0 {
		t.Fatalf("schemas are %+v, want the callbacks' inline", d.Schemas)
	}
	// One operation for each body root.
	var roots []string
	for _, e := range d.Schemas[0].Elements {
		roots = append(roots, e.Name)
	}
	var operations []string
	for _, o := range d.PortTypes[0].Operations {
		operations = append(operations, o.Name)
	}
	if !slices.Equal(roots, operations) {
		t.Errorf("roots %v, operations %v", roots, operations)
	}
	if strings.Contains(string(text), "schemaLocation") || strings.Contains(string(text), "localhost:28200") {
		t.Error("the served WSDL points elsewhere")
	}
	if n := strings.Count(string(text), "<?xml"); n != 1 || !strings.HasPrefix(string(text), "<?xml") {
		t.Errorf("%d XML declarations, want one at the start", n)
	}
}

// TestListenerEscapesTheAddress: the address comes from the request, and stays an attribute's value whatever it holds.
func TestListenerEscapesTheAddress(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"http://127.0.0.1:28204/",
		"https://callbacks.example.com/DeviceUsage?a=1&b=2",
		`http://host/"/><evil xmlns="urn:x"/><a b="`,
		"http://host/<!--",
		"http://host/'&amp;",
		"http://[::1]:28204/\u00fc",
		"",
	} {
		text, err := wsdl.Listener(address)
		if err != nil {
			t.Errorf("%q: %v", address, err)
			continue
		}
		d := parse(t, text)
		if len(d.Ports) != 1 || d.Ports[0].Address.Location != address {
			t.Errorf("%q: ports are %+v", address, d.Ports)
		}
		if strings.Contains(string(text), "<evil") {
			t.Errorf("%q: the address became markup", address)
		}
	}
}
