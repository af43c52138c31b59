package receiver_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"callbackd/internal/auth"
	"callbackd/internal/callback"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
	"callbackd/internal/inbox/sqlite/faultvfs"
	"callbackd/internal/receiver"
	"callbackd/internal/thingspace"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	sqlite3 "modernc.org/sqlite/lib"
)

// TestAckIsExact holds the answers to what was stored byte for byte, the date aside.
func TestAckIsExact(t *testing.T) {
	t.Parallel()
	const envelope11 = `<?xml version="1.0" encoding="utf-8"?>` + "\n" + `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body/></s:Envelope>`
	const envelope12 = `<?xml version="1.0" encoding="utf-8"?>` + "\n" + `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body/></s:Envelope>`
	for _, tt := range []struct {
		name    string
		ack     receiver.Ack
		message string
		want    string
	}{
		{"an envelope", receiver.AckEnvelope, message(), "HTTP/1.1 200 OK\r\nContent-Length: 125\r\nContent-Type: text/xml; charset=utf-8\r\nDate: -\r\nConnection: close\r\n\r\n" + envelope11},
		{"an envelope of SOAP 1.2", receiver.AckEnvelope, soap12(message()), "HTTP/1.1 200 OK\r\nContent-Length: 123\r\nContent-Type: application/soap+xml; charset=utf-8\r\nDate: -\r\nConnection: close\r\n\r\n" + envelope12},
		{"an envelope for a bare message", receiver.AckEnvelope, bare(), "HTTP/1.1 200 OK\r\nContent-Length: 125\r\nContent-Type: text/xml; charset=utf-8\r\nDate: -\r\nConnection: close\r\n\r\n" + envelope11},
		{"nothing", receiver.AckEmpty, message(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: -\r\nConnection: close\r\n\r\n"},
		{"nothing for SOAP 1.2", receiver.AckEmpty, soap12(message()), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: -\r\nConnection: close\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, func(r *rig) { r.options.Ack = tt.ack })
			c := r.dial()
			c.send(tt.message, usual(len(tt.message), "Connection: close")...)
			raw, err := io.ReadAll(c.in)
			if err != nil {
				t.Fatal(err)
			}
			got := regexp.MustCompile(`Date: [^\r]*`).ReplaceAllString(string(raw), "Date: -")
			if got != tt.want {
				t.Errorf("got\n%q\nwant\n%q", got, tt.want)
			}
			if n := len(r.entries()); n != 1 {
				t.Errorf("%d entries, want 1", n)
			}
		})
	}
}

// bare is a message without an envelope.
func bare() string {
	text := message()
	from, to := strings.Index(text, "<CallbackRequest"), strings.Index(text, "</s:Body>")
	return edit(text[from:to], "<CallbackRequest ", `<CallbackRequest xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" `)
}

// TestTaken goes through what is strange and yet taken: the platform's own form is not published, and a refusal would lose the message.
func TestTaken(t *testing.T) {
	t.Parallel()
	extension := message("</Data>", "<Tariff><Name>new</Name></Tariff></Data>")
	misrouted := message("<CarrierService xsi:nil=\"true\"/>", "<CarrierService><ChangeDeviceState><Activate/></ChangeDeviceState></CarrierService>", "<Comment>Device will be auto resumed on - 3/15/2017 12:00:00 AM</Comment>", "")
	for _, tt := range []struct {
		name     string
		body     string
		header   []string // in place of Content-Type
		encoding string
		flags    []string
		metric   string // counts it once
	}{
		{name: "text/xml", body: message(), header: []string{"Content-Type", "text/xml"}},
		{name: "a quoted SOAPAction", body: message(), header: []string{"Content-Type", "text/xml", "SOAPAction", `"http://nphase.com/unifiedwebservice/v2/ICallback/Callback"`}},
		{name: "an unquoted SOAPAction", body: message(), header: []string{"Content-Type", "text/xml", "SOAPAction", `urn:x`}},
		{name: "application/soap+xml with SOAP 1.1", body: message(), header: []string{"Content-Type", `application/soap+xml; action="x"`}},
		{name: "no Content-Type", body: message(), metric: "callbackd_unfamiliar_media_types_total"},
		{name: "an unfamiliar Content-Type", body: message(), header: []string{"Content-Type", "application/octet-stream"}, metric: "callbackd_unfamiliar_media_types_total"},
		{name: "a Content-Type that is none", body: message(), header: []string{"Content-Type", ";;;"}, metric: "callbackd_unfamiliar_media_types_total"},
		{name: "gzip", body: gzipped(message()), header: []string{"Content-Type", "text/xml", "Content-Encoding", "gzip"}},
		{name: "X-GZIP and identity", body: gzipped(message()), header: []string{"Content-Type", "text/xml", "Content-Encoding", "identity, X-GZIP"}},
		{name: "gzip in two members", body: gzipped(message()[:99]) + gzipped(message()[99:]), header: []string{"Content-Type", "text/xml", "Content-Encoding", "gzip"}},
		{name: "a byte order mark", body: "\ufeff" + message(), header: []string{"Content-Type", "text/xml"}},
		{name: "UTF-16", body: inUTF16(message()), header: []string{"Content-Type", "text/xml"}, encoding: "utf-16le"},
		{name: "windows-1252 by the Content-Type", body: message("resumed", "r\xe9sum\xe9d \x80"), header: []string{"Content-Type", "text/xml; charset=Windows-1252"}, encoding: "windows-1252"},
		{name: "ISO-8859-1 by the declaration", body: `<?xml version="1.0" encoding="ISO-8859-1"?>` + message("resumed", "r\xe9sum\xe9d"), header: []string{"Content-Type", "text/xml"}, encoding: "iso-8859-1"},
		{name: "SOAP 1.2", body: soap12(message()), header: []string{"Content-Type", "application/soap+xml"}},
		{name: "no envelope", body: bare(), header: []string{"Content-Type", "text/xml"}, flags: []string{"bare"}, metric: "callbackd_bare_total"},
		{name: "an extension", body: extension, header: []string{"Content-Type", "text/xml"}, flags: []string{"extension"}, metric: "callbackd_extensions_total"},
		{name: "the payload of another service", body: misrouted, header: []string{"Content-Type", "text/xml"}, flags: []string{"misrouted"}, metric: "callbackd_misrouted_total"},
		{name: "a test", body: message(), header: []string{"Content-Type", "text/xml", receiver.TestHeader, receiver.TestDelivered}, flags: []string{"test"}, metric: "callbackd_tests_total"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			if a := r.do(http.MethodPost, r.url()+"any/path", tt.body, tt.header...); a.status != http.StatusOK {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			r.counted("ack")
			entries := r.entries()
			if len(entries) != 1 {
				t.Fatalf("%d entries, want 1", len(entries))
			}
			e := entries[0]
			if tt.encoding == "" {
				tt.encoding = "utf-8"
			}
			if e.Facts.Encoding != tt.encoding {
				t.Errorf("encoding %q, want %q", e.Facts.Encoding, tt.encoding)
			}
			if e.RequestID != requestID || e.Account != "main" || e.Facts.Credential != "2026" || e.Facts.Source != "127.0.0.1" {
				t.Errorf("entry of request %q, account %q, credential %q, source %q", e.RequestID, e.Account, e.Facts.Credential, e.Facts.Source)
			}
			if !slices.Equal(e.Flags(), tt.flags) {
				t.Errorf("flags %q, want %q", e.Flags(), tt.flags)
			}
			if got := r.handlers(e.Seq); !slices.Equal(got, []string{"events", "log"}) {
				t.Errorf("delivered to %q, want events and log", got)
			}
			for _, metric := range []string{"callbackd_unfamiliar_media_types_total", "callbackd_bare_total", "callbackd_extensions_total",
				"callbackd_misrouted_total", "callbackd_tests_total", "callbackd_violations_total", "callbackd_quarantined_total"} {
				want := 0.0
				if metric == tt.metric {
					want = 1
				}
				if got := r.metric(metric); got != want {
					t.Errorf("%s is %v, want %v", metric, got, want)
				}
			}
		})
	}
}

func inUTF16(text string) string {
	units := utf16.Encode([]rune("\ufeff" + text))
	b := make([]byte, 0, 2*len(units))
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

// TestValidation goes through the modes with a message that is authentic, well-formed and off the schema.
func TestValidation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mode     receiver.Validation
		ends     string
		state    inbox.State
		handlers []string
	}{
		{receiver.Enforce, "schema", "", nil},
		{receiver.Quarantine, "ack", inbox.Quarantined, nil},
		{receiver.Observe, "ack", inbox.Pending, []string{"events", "log"}},
	} {
		t.Run(string(tt.mode), func(t *testing.T) {
			t.Parallel()
			r := start(t, validation(tt.mode))
			r.post(message("<Kind>Mdn</Kind>", ""))
			r.counted(tt.ends)
			entries := r.entries()
			if tt.ends != "ack" {
				if len(entries) != 0 {
					t.Errorf("%d entries of a refused message", len(entries))
				}
				return
			}
			if len(entries) != 1 {
				t.Fatalf("%d entries, want 1", len(entries))
			}
			e := entries[0]
			if e.State != tt.state || !slices.Equal(e.Flags(), []string{"violation"}) || !slices.Equal(r.handlers(e.Seq), tt.handlers) {
				t.Errorf("state %s, flags %q, delivered to %q; want %s, a violation, %q", e.State, e.Flags(), r.handlers(e.Seq), tt.state, tt.handlers)
			}
			if v := e.Facts.Violations; len(v) == 0 || v[0].Path != "CallbackRequest/Device" || v[0].Line != 9 {
				t.Errorf("violations %+v, want the first at CallbackRequest/Device on line 9", v)
			}
			if got := r.samples("callbackd_schema_violations_total"); got[`path="CallbackRequest/Device"`] != float64(len(e.Facts.Violations)) || got[`path="other"`] != 0 {
				t.Errorf("violations by path: %v", got)
			}
			want := 0.0
			if tt.mode == receiver.Quarantine {
				want = 1
			}
			if got := r.metric("callbackd_quarantined_total"); got != want {
				t.Errorf("%v quarantined, want %v", got, want)
			}
			if got := r.metric("callbackd_violations_total"); got != 1 {
				t.Errorf("%v violations, want 1", got)
			}
		})
	}
}

// TestAValidatorThatFailsLosesNothing puts a second opinion in place that panics on everything.
func TestAValidatorThatFailsLosesNothing(t *testing.T) {
	t.Parallel()
	r := start(t, func(r *rig) { r.options.SecondOpinion, r.options.Engine = new(thingspace.SecondOpinion), receiver.Both })
	if a := r.post(message()); a.status != http.StatusOK {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	e := r.entries()
	if len(e) != 1 || e[0].State != inbox.Quarantined || len(e[0].Facts.Violations) != 1 || e[0].Facts.Violations[0].Rule != "unjudged" {
		t.Errorf("entries %+v, want one in quarantine as unjudged", e)
	}
	if got := r.metric("callbackd_unjudged_total"); got != 1 {
		t.Errorf("%v unjudged, want 1", got)
	}
	if len(r.log.lines("panic while validating")) != 1 {
		t.Error("the panic is not in the log")
	}
}

// opinion is a second opinion that is always the same.
type opinion []thingspace.Violation

func (o opinion) Validate(context.Context, *thingspace.Message) ([]thingspace.Violation, error) {
	return o, nil
}

type noOpinion struct{}

func (noOpinion) Validate(context.Context, *thingspace.Message) ([]thingspace.Violation, error) {
	return nil, errors.New("the validator is not itself today")
}

// TestTheSecondOpinion has another validator agree, disagree and fail, on messages that the decoder finds fault with and on others: what is in
// dispute is held and never refused, and a message is disputed only if somebody was asked.
func TestTheSecondOpinion(t *testing.T) {
	t.Parallel()
	broken := message("<Kind>Mdn</Kind>", "")
	fault := opinion{{Path: "CallbackRequest/Data", Line: 7, Column: 1, Rule: "element", Msg: "unexpected"}}
	for name, tt := range map[string]struct {
		message string
		engine  receiver.Engine
		mode    receiver.Validation
		second  receiver.SecondOpinion
		status  int
		state   inbox.State
		opinion inbox.Opinion
		path    string // of the first violation
	}{
		"nothing to ask about":        {message(), receiver.Fast, receiver.Enforce, fault, 200, inbox.Pending, "", ""},
		"both find nothing":           {message(), receiver.Both, receiver.Enforce, opinion(nil), 200, inbox.Pending, inbox.OpinionAgrees, ""},
		"the second alone, enforced":  {message(), receiver.Both, receiver.Enforce, fault, 200, inbox.Quarantined, inbox.OpinionDisagrees, "CallbackRequest/Data"},
		"the second alone, observed":  {message(), receiver.Both, receiver.Observe, fault, 200, inbox.Pending, inbox.OpinionDisagrees, "CallbackRequest/Data"},
		"the decoder alone, enforced": {broken, receiver.Fast, receiver.Enforce, opinion(nil), 200, inbox.Quarantined, inbox.OpinionDisagrees, "CallbackRequest/Device"},
		"both find fault, enforced":   {broken, receiver.Fast, receiver.Enforce, fault, 400, "", "", ""},
		"both find fault":             {broken, receiver.Fast, receiver.Quarantine, fault, 200, inbox.Quarantined, inbox.OpinionAgrees, "CallbackRequest/Device"},
		"the second fails, enforced":  {broken, receiver.Fast, receiver.Enforce, noOpinion{}, 200, inbox.Quarantined, inbox.OpinionMissing, "CallbackRequest/Device"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, validation(tt.mode), func(r *rig) { r.options.SecondOpinion, r.options.Engine = tt.second, tt.engine })
			if a := r.post(tt.message); a.status != tt.status {
				t.Fatalf("status %d, want %d: %s", a.status, tt.status, a.body)
			}
			want := 0.0
			if tt.opinion == inbox.OpinionDisagrees {
				want = 1
			}
			if got := r.metric("callbackd_validator_disagreements_total"); got != want {
				t.Errorf("%v disagreements are counted, want %v", got, want)
			}
			entries := r.entries()
			if tt.state == "" {
				if len(entries) != 0 {
					t.Errorf("%d entries of what was refused", len(entries))
				}
				return
			}
			if len(entries) != 1 || entries[0].State != tt.state || entries[0].Facts.SecondOpinion != tt.opinion ||
				slices.Contains(entries[0].Flags(), "disputed") != (want == 1) {
				t.Fatalf("entries %+v, want one that is %s, with the second opinion %q", entries, tt.state, tt.opinion)
			}
			if v := entries[0].Facts.Violations; tt.path == "" && len(v) > 0 || tt.path != "" && (len(v) == 0 || v[0].Path != tt.path) {
				t.Errorf("violations %+v, want the first at %q", v, tt.path)
			}
		})
	}
}

func TestADuplicateIsAcknowledgedAndNotDeliveredAgain(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.post(message(attempt(1, 4)...))
	r.post(message(attempt(2, 4)...))
	r.counted("ack", "ack")
	entries := r.entries()
	if len(entries) != 1 || entries[0].Sightings != 2 {
		t.Fatalf("entries %+v, want one with two sightings", entries)
	}
	if got := len(r.handlers(entries[0].Seq)); got != 2 {
		t.Errorf("%d deliveries, want 2", got)
	}
	if len(r.log.lines(`"flags":["duplicate"]`)) != 1 {
		t.Errorf("no line of log flags the duplicate:\n%s", r.log)
	}
}

// TestRotation swaps the credential gate while the receiver runs, as the platform goes on with the old pair for a while.
func TestRotation(t *testing.T) {
	t.Parallel()
	r := start(t)
	old := auth.Credential{Label: "main", ID: "2026", Username: "acme", Password: auth.NewPassword(password)}
	fresh := auth.Credential{Label: "main", ID: "2027", Username: "acme", Password: auth.NewPassword("fresh")}
	send := func(n, password string) int {
		return r.post(message("2c90bd28", n, "s3cret-pass", password)).status
	}
	if got := send("00000001", "fresh"); got != http.StatusUnauthorized {
		t.Errorf("the new pair before it is configured: %d", got)
	}
	r.credentials(false, old, fresh)
	if a, b := send("00000002", password), send("00000003", "fresh"); a != http.StatusOK || b != http.StatusOK {
		t.Errorf("both pairs during the rotation: %d and %d", a, b)
	}
	r.credentials(false, fresh)
	if a, b := send("00000004", password), send("00000005", "fresh"); a != http.StatusUnauthorized || b != http.StatusOK {
		t.Errorf("after the rotation the old pair gets %d, the new one %d", a, b)
	}
	var ids []string
	for _, e := range r.entries() {
		ids = append(ids, e.Account+" "+e.Facts.Credential)
	}
	if want := []string{"main 2026", "main 2027", "main 2027"}; !slices.Equal(ids, want) {
		t.Errorf("entries of %q, want %q", ids, want)
	}
	if got := r.metric("callbackd_credential_matches_total", `id="2027"`); got != 2 {
		t.Errorf("%v matches of the new pair, want 2", got)
	}
}

func TestAnonymous(t *testing.T) {
	t.Parallel()
	empty := message(">acme<", "><", password, "")
	r := start(t, func(r *rig) { r.credentials(true) })
	if a := r.post(empty); a.status != http.StatusOK {
		t.Errorf("the empty pair gets %d: %s", a.status, a.body)
	}
	if a := r.post(message()); a.status != http.StatusUnauthorized {
		t.Errorf("a pair that nobody configured gets %d", a.status)
	}
	if e := r.entries(); len(e) != 1 || e[0].Account != auth.Anonymous {
		t.Errorf("entries %+v, want one that is anonymous", e)
	}
}

// TestTests sends messages marked as tests: authenticated they are stored, flagged, and kept from real handlers unless it is asked for.
func TestTests(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, mark string
		handlers   []string
		test       bool
	}{
		{"to be stored", receiver.TestStored, []string{"log"}, true},
		{"to be delivered", receiver.TestDelivered, []string{"events", "log"}, true},
		{"with a mark of a later release", "shadow", []string{"log"}, true},
		{"not marked", "", []string{"events", "log"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			r.post(message(), receiver.TestHeader, tt.mark)
			r.post(message(password, "guess"), receiver.TestHeader, tt.mark)
			r.counted("ack", "credentials")
			e := r.entries()
			if len(e) != 1 || e[0].Facts.Test != tt.test {
				t.Fatalf("entries %+v, want one with test %v", e, tt.test)
			}
			if got := r.handlers(e[0].Seq); !slices.Equal(got, tt.handlers) {
				t.Errorf("delivered to %q, want %q", got, tt.handlers)
			}
		})
	}
}

// TestServicesShareAPort parts services by path, a slash more at its end or not.
func TestServicesShareAPort(t *testing.T) {
	t.Parallel()
	usage, carrier, resume := service(callback.DeviceUsage), service(callback.CarrierService), service(callback.ResumeTrackingNotification)
	usage.Path, carrier.Path = "/usage", "/carrier/v2"
	r := start(t, func(r *rig) { r.options.Listeners = []receiver.Listener{listener(r.t, usage, carrier, resume)} })
	for i, path := range []string{"usage", "carrier/v2", "", "usage/"} {
		text := message("2c90bd28", "0000000"+string(rune('0'+i)))
		if a := r.do(http.MethodPost, r.url()+path, text); a.status != http.StatusOK {
			t.Errorf("/%s: status %d", path, a.status)
		}
	}
	for _, path := range []string{"usage//", "Usage", "carrier", "carrier/v2/x", "other"} {
		if a := r.do(http.MethodPost, r.url()+path, message()); a.status != http.StatusNotFound {
			t.Errorf("/%s: status %d, want 404", path, a.status)
		}
	}
	var services []string
	for _, e := range r.entries() {
		services = append(services, e.Service)
	}
	if want := []string{"DeviceUsage", "CarrierService", "ResumeTrackingNotification", "DeviceUsage"}; !slices.Equal(services, want) {
		t.Errorf("entries of %q, want %q", services, want)
	}
	if got := r.metric("callbackd_refusals_total", `reason="path"`); got != 5 {
		t.Errorf("%v refusals for their path, want 5", got)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	twice := service(callback.DeviceUsage)
	pattern := service(callback.DeviceUsage)
	pattern.Path = "/{all}"
	relative := service(callback.DeviceUsage)
	relative.Path = "usage"
	for _, tt := range []struct {
		name     string
		services []receiver.Service
		inFlight int64
		want     string
	}{
		{"two services at one path", []receiver.Service{twice, service(callback.CarrierService)}, 0, "cannot share"},
		{"a pattern for a path", []receiver.Service{pattern}, 0, `"/{all}"`},
		{"a path without its slash", []receiver.Service{relative}, 0, `"usage"`},
		{"too little memory for one message", []receiver.Service{twice}, 1 << 20, "four times the largest message"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			o := r.options
			o.Metrics, o.InFlight = receiver.NewMetrics(prometheus.NewRegistry()), tt.inFlight
			o.Listeners = []receiver.Listener{listener(t, tt.services...)}
			if _, err := receiver.New(o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestWSDL asks for the description as clients do.
func TestWSDL(t *testing.T) {
	t.Parallel()
	r := start(t)
	for _, query := range []string{"wsdl", "WSDL", "Wsdl", "singleWsdl", "wsdl=1", "x=1&wsdl"} {
		a := r.do(http.MethodGet, r.url()+"a/b?"+query, "")
		if want := `location="http://` + r.addrs[0] + `/a/b"`; a.status != http.StatusOK || !strings.Contains(a.body, want) {
			t.Errorf("?%s: status %d without %s", query, a.status, want)
		}
		if got := a.header.Get("Content-Type"); got != "text/xml; charset=utf-8" {
			t.Errorf("?%s: Content-Type %q", query, got)
		}
	}
	get, head := r.do(http.MethodGet, r.url()+"?wsdl", ""), r.do(http.MethodHead, r.url()+"?wsdl", "")
	if head.status != http.StatusOK || head.body != "" || head.header.Get("Content-Length") != get.header.Get("Content-Length") {
		t.Errorf("HEAD gets %d, %q, %v", head.status, head.body, head.header)
	}
	if a := r.post(message()); a.status != http.StatusOK {
		t.Errorf("POST beside it gets %d", a.status)
	}
	ends := slices.Repeat([]string{"wsdl"}, 8)
	r.counted(append(ends, "ack")...)
}

func TestWSDLNamesThePublicURLAndTheGateGuardsIt(t *testing.T) {
	t.Parallel()
	s := service(callback.DeviceUsage)
	s.PublicURL = "https://callbacks.example.com/usage?a=1&b=2"
	r := start(t, func(r *rig) { r.options.Listeners = []receiver.Listener{listener(r.t, s)} })
	if a := r.do(http.MethodGet, r.url()+"?wsdl", ""); !strings.Contains(a.body, `location="https://callbacks.example.com/usage?a=1&amp;b=2"`) {
		t.Errorf("the WSDL does not name the public URL: %s", a.body)
	}
	r.network(auth.Config{Mode: auth.Enforce, Allow: []string{"192.0.2.1"}})
	if a := r.do(http.MethodGet, r.url()+"?wsdl", ""); a.status != http.StatusForbidden {
		t.Errorf("an address that is not allowed gets %d", a.status)
	}
	r.counted("wsdl", "network")
}

// faulty puts the inbox on a file system whose failures can be ordered.
func faulty(t *testing.T, fs *faultvfs.FS) func(*rig) {
	return func(r *rig) {
		store, err := sqlite.Open(t.Context(), sqlite.Options{Dir: t.TempDir(), VFS: fs.Name(), Log: zap.NewNop(), Metrics: inbox.NewMetrics(prometheus.NewRegistry())})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() }) // it may be broken
		if _, err := store.Register(t.Context(), []string{"events", "log"}); err != nil {
			t.Fatal(err)
		}
		r.options.Store = store
	}
}

func newFS(t *testing.T) *faultvfs.FS {
	t.Helper()
	fs, err := faultvfs.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fs.Close() }) // after the store's
	return fs
}

// TestNoAckBeforeTheCommit stalls the disk: the answer waits for the sync.
func TestNoAckBeforeTheCommit(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	r := start(t, faulty(t, fs))
	stall := fs.Stall(faultvfs.Sync, faultvfs.WAL, 0)
	c := r.dial()
	c.send(message(), usual(len(message()))...)
	<-stall.Reached()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.in.Peek(1); err == nil {
		t.Fatal("an answer before the sync has returned")
	}
	stall.Clear()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if a := c.answer(); a.status != http.StatusOK {
		t.Errorf("after the sync: status %d", a.status)
	}
}

// TestOurFailureIsNeverTheSenders fails the real store in the ways that a disk fails.
func TestOurFailureIsNeverTheSenders(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		fault  faultvfs.Fault
		reason string
	}{
		{"the disk is full", faultvfs.Fault{Op: faultvfs.Write, Role: faultvfs.WAL, Code: sqlite3.SQLITE_FULL, Sticky: true}, "store_unavailable"},
		{"a sync fails", faultvfs.Fault{Op: faultvfs.Sync, Role: faultvfs.WAL}, "store_broken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fs := newFS(t)
			r := start(t, faulty(t, fs))
			trap := fs.Fail(tt.fault)
			a := r.post(message())
			if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "s:Server") {
				t.Errorf("status %d, header %v: %s", a.status, a.header, a.body)
			}
			r.counted(tt.reason)
			trap.Clear()
			r.forget()
			if tt.reason == "store_broken" {
				r.post(message())
				r.counted(tt.reason) // for good
				return
			}
			if a := r.post(message()); a.status != http.StatusOK {
				t.Errorf("once there is room again: status %d: %s", a.status, a.body)
			}
		})
	}
}

// TestTheSenderLeaves closes the connection while the message is on its way to the disk: it is stored all the same.
func TestTheSenderLeaves(t *testing.T) {
	t.Parallel()
	queued, gone, stored := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	r := start(t, wrap(func(ctx context.Context, a inbox.Arrival, next receiver.Store) (inbox.Receipt, error) {
		close(queued)
		<-gone
		receipt, err := next.Append(ctx, a)
		stored <- errors.Join(err, ctx.Err())
		return receipt, err
	}))
	c := r.dial()
	c.send(message(), usual(len(message()))...)
	<-queued
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	close(gone)
	if err := <-stored; err != nil {
		t.Errorf("append: %v", err)
	}
	r.counted("ack")
	if n := len(r.entries()); n != 1 {
		t.Errorf("%d entries, want 1", n)
	}
}

// TestTheSenderLeavesWhileItsMessageIsJudged has a message that takes a while to be judged.
func TestTheSenderLeavesWhileItsMessageIsJudged(t *testing.T) {
	t.Parallel()
	r := start(t)
	text := collections()
	c := r.dial()
	c.send(text, usual(len(text))...)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	r.counted("ack")
	if got := r.metric("callbackd_unjudged_total"); got != 0 {
		t.Errorf("%v messages could not be judged", got)
	}
}

// TestALostAckIsCounted has senders leave while their messages are being stored, until the server has noticed one before its ack.
func TestALostAckIsCounted(t *testing.T) {
	t.Parallel()
	queued, gone := make(chan struct{}), make(chan struct{})
	r := start(t, wrap(func(ctx context.Context, a inbox.Arrival, next receiver.Store) (inbox.Receipt, error) {
		queued <- struct{}{}
		<-gone
		return next.Append(ctx, a)
	}))
	r.eventually("an ack that nobody hears", func() bool {
		c := r.dial()
		c.send(message(), usual(len(message()))...)
		<-queued
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		gone <- struct{}{}
		return r.metric("callbackd_unheard_acks_total") > 0
	})
	if len(r.log.lines(`"unheard"`)) == 0 {
		t.Error("no line of log flags it")
	}
}
