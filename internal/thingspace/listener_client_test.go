package thingspace_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"callbackd/internal/soap"
	"callbackd/internal/thingspace"
	"callbackd/internal/thingspace/internal/uws/listener"
	"callbackd/wsdl"

	gowsdl "github.com/hooklift/gowsdl/soap"
)

// endpoint is a listener as far as a SOAP client sees it: it describes itself, reads, and acknowledges.
type endpoint struct {
	*httptest.Server
	refuse bool
	// What arrived last, and what was said of it.
	message *thingspace.Message
	err     error
	action  string
}

func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	if r.Method == http.MethodGet {
		text, err := wsdl.Listener("http://" + r.Host + r.URL.Path)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = w.Write(text)
		return
	}
	e.action = r.Header.Get("SOAPAction")
	raw, err := io.ReadAll(r.Body)
	if err == nil {
		e.message, err = thingspace.Read(raw, thingspace.ReadOptions{KeepExtra: true})
	}
	if e.err = err; err != nil || e.refuse {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write(soap.Fault(soap.V11, soap.Server, "try again later"))
		return
	}
	_, _ = w.Write(soap.Ack(e.message.SOAP))
}

// client is the generated client, at the address that the endpoint's WSDL names.
func (e *endpoint) client(t *testing.T) listener.CallbackListener {
	t.Helper()
	response, err := http.Get(e.URL + "/DeviceUsage?wsdl")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var definitions struct {
		Address struct {
			Location string `xml:"location,attr"`
		} `xml:"service>port>address"`
	}
	if err := xml.NewDecoder(response.Body).Decode(&definitions); err != nil {
		t.Fatal(err)
	}
	if want := e.URL + "/DeviceUsage"; definitions.Address.Location != want {
		t.Fatalf("the WSDL names %q, want %q", definitions.Address.Location, want)
	}
	return listener.NewCallbackListener(gowsdl.NewClient(definitions.Address.Location))
}

// check wants what arrived to be on schema, known to the last element, and to hold every value that was sent.
func (e *endpoint) check(t *testing.T, root string, sent []string) {
	t.Helper()
	if e.err != nil {
		t.Fatal(e.err)
	}
	if e.message.Root != root || !strings.Contains(e.action, root) {
		t.Errorf("%s arrived with SOAPAction %s, want %s", e.message.Root, e.action, root)
	}
	if e.message.ExtensionCount != 0 {
		t.Errorf("the decoder does not know %v, which the WSDL offers", e.message.Extensions)
	}
	validator, err := thingspace.NewSecondOpinion()
	if err != nil {
		t.Fatal(err)
	}
	violations, err := validator.Validate(t.Context(), e.message)
	if err != nil || len(violations) != 0 {
		t.Errorf("off schema: %v, %v", violations, err)
	}
	if e.message.Username != "acme" || e.message.Password != "p&w<" {
		t.Errorf("credentials %q, %q", e.message.Username, e.message.Password)
	}
	read, err := json.Marshal(e.message.Callback)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range sent {
		if !strings.Contains(string(read), `"`+value+`"`) {
			t.Errorf("the value %s is lost; the callback is %s", value, read)
		}
	}
}

func TestGeneratedClientCallsCallbackRequest(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t)
	var f filler
	var request listener.CallbackRequest
	f.fill(reflect.ValueOf(&request).Elem(), "CallbackRequest")
	request.Username, request.Password = "acme", "p&w<"
	if err := e.client(t).CallbackRequestContext(t.Context(), &request); err != nil {
		t.Fatal(err)
	}
	if len(f.sent) < 60 {
		t.Fatalf("only %d values were sent", len(f.sent))
	}
	e.check(t, "CallbackRequest", f.sent)
	if c := e.message.Callback; c.CallbackCount != 3 || c.MaxCallbackThreshold != 3 {
		t.Errorf("counters %d and %d, want 3", c.CallbackCount, c.MaxCallbackThreshold)
	}
}

func TestGeneratedClientCallsSmsCallbackRequest(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t)
	var f filler
	var request listener.SmsCallbackRequest
	f.fill(reflect.ValueOf(&request).Elem(), "SmsCallbackRequest")
	request.Username, request.Password = "acme", "p&w<"
	if err := e.client(t).SmsCallbackRequestContext(t.Context(), &request); err != nil {
		t.Fatal(err)
	}
	e.check(t, "SmsCallbackRequest", f.sent)
}

func TestGeneratedClientLearnsOfARefusal(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t)
	e.refuse = true
	err := e.client(t).SmsCallbackRequestContext(t.Context(), &listener.SmsCallbackRequest{Username: "acme"})
	var status *gowsdl.HTTPError
	if !errors.As(err, &status) || status.StatusCode != http.StatusInternalServerError || !strings.Contains(string(status.ResponseBody), "try again later") {
		t.Errorf("got %v, want the refusal", err)
	}
}

// filler gives every field of a message a value of its own: one element for each list, one object for each pointer.
type filler struct{ sent []string }

func (f *filler) fill(v reflect.Value, at string) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem(), at)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		f.fill(v.Index(0), at)
	case reflect.Struct:
		for field, value := range v.Fields() {
			if field.Name != "XMLName" {
				f.fill(value, at+"/"+field.Name)
			}
		}
	case reflect.String:
		value := fmt.Sprintf("v%d", len(f.sent))
		v.SetString(value)
		if at = at[strings.IndexByte(at, '/')+1:]; at != "Username" && at != "Password" {
			f.sent = append(f.sent, value)
		}
	case reflect.Int32:
		v.SetInt(3)
	default:
		panic("a field of kind " + v.Kind().String() + " at " + at)
	}
}
