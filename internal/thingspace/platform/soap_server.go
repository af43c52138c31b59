package platform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"callbackd/internal/soap"
	"callbackd/schemas"
	"callbackd/wsdl"

	"go.uber.org/zap"
)

// contract is the namespace of what stands in Input and Output.
func contract(service string) string {
	return "http://schemas.datacontract.org/2004/07/NPhase.UnifiedWebService.APIs.v2.Contract." + service
}

// soapService is one of the platform's services.
type soapService struct {
	name       string
	wsdl       string // its file
	operations []operation
}

// operation is what a service offers.
type operation struct {
	name string
	// members of Input, in their order; nil means that nothing is asked of Input.
	members []string
	// open needs no session.
	open bool
	run  func(ctx context.Context, c *call) (answer, error)
}

// call is one request for an operation.
type call struct {
	operation
	token string
	// input has every one of the operation's members.
	input map[string]string
	user  string // of the session
}

// answer is what an operation returns.
type answer struct {
	token  string // for the header
	output string // the content of Output, written
}

// soapFault refuses a call. Code is what follows the service's name.
type soapFault struct{ code, text string }

func (f *soapFault) Error() string { return f.code + ": " + f.text }

// wcfFault is a fault by the framework below the platform's services, which has a namespace of its own for its codes.
type wcfFault struct{ namespace, code, text string }

func (f *wcfFault) Error() string { return f.code + ": " + f.text }

func deserializationFailed(format string, args ...any) error {
	return &wcfFault{"http://schemas.microsoft.com/net/2005/12/windowscommunicationfoundation/dispatcher", "DeserializationFailed",
		"The formatter threw an exception while trying to deserialize the message: " + fmt.Sprintf(format, args...)}
}

func actionNotSupported(what string) error {
	return &wcfFault{"http://schemas.microsoft.com/ws/2005/05/addressing/none", "ActionNotSupported", what}
}

// badRequest is a request that is not answered in SOAP.
type badRequest struct {
	status int
	text   string
}

func (e *badRequest) Error() string { return e.text }

// serve answers requests for a service.
func (s *Simulator) serve(service soapService) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			s.describe(w, r, service)
			return
		}
		from := time.Now()
		c, a, err := s.call(w, r, service)
		status, body := http.StatusOK, []byte(nil)
		var bad *badRequest
		switch {
		case err == nil:
			body = a.encode(service.name, c.name)
		case errors.As(err, &bad):
			status = bad.status
			http.Error(w, bad.text, status)
		default:
			status, body = http.StatusInternalServerError, encodeFault(service.name, err)
		}
		if body != nil {
			w.Header().Set("Content-Type", soap.V11.ContentType())
			w.WriteHeader(status)
			_, _ = w.Write(body) // the client may be gone
		}
		s.logCall(service.name, c, status, err, time.Since(from))
	}
}

// logCall tells of a call. Of what was sent it has the account and what is about its registrations, cut to a length.
func (s *Simulator) logCall(service string, c *call, status int, err error, took time.Duration) {
	fields := []zap.Field{zap.String("service", service), zap.Int("status", status)}
	if c != nil {
		fields = append(fields, zap.String("operation", c.name))
		for _, member := range []struct{ name, key string }{{"AccountName", "account"}, {"ServiceName", "callbacks"}} {
			if value := c.input[member.name]; value != "" {
				fields = append(fields, zap.String(member.key, shorten(value)))
			}
		}
		if u, err := url.Parse(c.input["Url"]); err == nil && u.Host != "" {
			fields = append(fields, zap.String("url", shorten(u.Redacted())))
		}
	}
	if err != nil {
		fields = append(fields, zap.Error(err))
	}
	s.log.Info("call", append(fields, zap.Duration("took", took))...)
}

func shorten(text string) string {
	const most = 200
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

// call reads a request and carries it out. The call is nil if its operation was not understood.
func (s *Simulator) call(w http.ResponseWriter, r *http.Request, service soapService) (*call, answer, error) {
	mediaType, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "text/xml" {
		return nil, answer{}, &badRequest{http.StatusUnsupportedMediaType, "the Content-Type of SOAP 1.1 is text/xml; charset=utf-8"}
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(requestLimits.Bytes)))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, answer{}, &badRequest{http.StatusRequestEntityTooLarge, fmt.Sprintf("the request has more than %d bytes", tooLarge.Limit)}
	} else if err != nil {
		return nil, answer{}, &badRequest{http.StatusBadRequest, "read request: " + err.Error()}
	}
	c, err := service.read(raw, parameters["charset"])
	if err != nil {
		return c, answer{}, err
	}
	if err := checkAction(r.Header.Values("SOAPAction"), service.name, c.name); err != nil {
		return c, answer{}, err
	}
	if !c.open {
		if c.user, err = s.sessions.use(c.token, s.options.Now()); err != nil {
			return c, answer{}, err
		}
	}
	a, err := c.run(r.Context(), c)
	return c, a, err
}

const instance = "http://www.w3.org/2001/XMLSchema-instance"

// encode writes the answer as the published ones are written.
func (a answer) encode(service, operation string) []byte {
	var b strings.Builder
	b.WriteString(`<s:Envelope xmlns:s="` + soap.Namespace11 + `">`)
	if a.token != "" {
		b.WriteString(`<s:Header><token xmlns="` + namespace + `">` + escape(a.token) + `</token></s:Header>`)
	}
	b.WriteString(`<s:Body><` + operation + `Response xmlns="` + namespace + `">` +
		`<Output xmlns:i="` + instance + `" xmlns:a="` + contract(service) + `"`)
	if a.output == "" {
		b.WriteString(`/>`)
	} else {
		b.WriteString(`>` + a.output + `</Output>`)
	}
	b.WriteString(`</` + operation + `Response></s:Body></s:Envelope>`)
	return []byte(b.String())
}

// member writes a member of Output.
func member(name, value string) string { return element("a:"+name, value) }

// encodeFault writes a fault of SOAP 1.1.
func encodeFault(service string, err error) []byte {
	var own *soapFault
	var wcf *wcfFault
	var envelope *envelopeFault
	faultcode, reason := `<faultcode xmlns:a="http://schemas.microsoft.com/net/2005/12/windowscommunicationfoundation/dispatcher">`+
		`a:InternalServiceFault</faultcode>`, "The server was unable to process the request."
	switch {
	case errors.As(err, &own):
		faultcode, reason = element("faultcode", service+"."+own.code), own.text
	case errors.As(err, &wcf):
		faultcode, reason = `<faultcode xmlns:a="`+wcf.namespace+`">a:`+wcf.code+`</faultcode>`, wcf.text
	case errors.As(err, &envelope):
		return soap.Fault(soap.V11, envelope.code, envelope.text)
	}
	return []byte(`<s:Envelope xmlns:s="` + soap.Namespace11 + `"><s:Body><s:Fault>` + faultcode +
		`<faultstring xml:lang="en-US">` + escape(reason) + `</faultstring></s:Fault></s:Body></s:Envelope>`)
}

// describe answers with the WSDL of a service at the address that it was asked for at. It refers to the schemas that stand beside it.
func (s *Simulator) describe(w http.ResponseWriter, r *http.Request, service soapService) {
	asked := false
	for key := range r.URL.Query() {
		asked = asked || strings.EqualFold(key, "wsdl")
	}
	if !asked || r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "POST")
		http.Error(w, service.name+" of a simulated platform takes SOAP 1.1 by POST; its WSDL is at ?wsdl", http.StatusMethodNotAllowed)
		return
	}
	file, err := wsdl.FS.ReadFile(service.wsdl)
	if err != nil {
		panic(err) // the files are part of the program
	}
	published := `location="https://uws.apps.nphase.com/api/v2/` + service.name + `.svc"`
	address := `location="` + quote(`http://`+r.Host+r.URL.EscapedPath()) + `"`
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	_, _ = io.WriteString(w, strings.Replace(string(file), published, address, 1)) // the client may be gone
}

// quote makes a text an attribute's value.
func quote(text string) string { return strings.ReplaceAll(escape(text), `"`, "&quot;") }

// schema answers with a schema that a WSDL refers to, as ../schemas/NAME.
func (s *Simulator) schema(w http.ResponseWriter, r *http.Request) {
	file, err := schemas.FS.ReadFile(path.Base(r.URL.Path))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	_, _ = w.Write(file) // the client may be gone
}
