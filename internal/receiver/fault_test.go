package receiver_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"callbackd/internal/auth"
	"callbackd/internal/callback"
	"callbackd/internal/inbox"
	"callbackd/internal/receiver"
	"callbackd/internal/soap"
)

// refusalCase is one row of the table of refusals: what brings it about, and what the sender gets.
type refusalCase struct {
	name   string
	rig    []func(*rig)
	first  func(*rig) // before it is sent
	send   func(c *conn)
	status int
	code   string // of the SOAP fault
	reason string
	closed bool
	soap12 bool
	text   string // within the fault
	header [2]string
}

func body(text string, head ...string) func(*conn) {
	return func(c *conn) { c.send(text, usual(len(text), head...)...) }
}

func head(lines ...string) func(*conn) {
	return func(c *conn) { c.send("", append(lines, "Host: callbackd")...) }
}

// failing is a store whose appends end with err.
func failing(err error) []func(*rig) {
	return []func(*rig){wrap(func(context.Context, inbox.Arrival, receiver.Store) (inbox.Receipt, error) {
		return inbox.Receipt{}, err
	})}
}

func one(f func(*rig)) []func(*rig) { return []func(*rig){f} }

var serverFault = [2]string{"Retry-After", "5"}

func refusalCases() []refusalCase {
	hostile := edit(message(), "<Kind>Mdn", "<Kind>Mdn"+strings.Repeat("<a>", 100))
	broken := message("</Device>", "")
	return []refusalCase{
		{name: "GET without ?wsdl", send: head("GET / HTTP/1.1"), status: 405, code: "Client", reason: "method", text: "?wsdl", header: [2]string{"Allow", "GET, HEAD, POST"}},
		{name: "PUT", send: head("PUT / HTTP/1.1"), status: 405, code: "Client", reason: "method", text: "POST"},
		{name: "a method that nobody knows", send: head("BREW / HTTP/1.1"), status: 405, code: "Client", reason: "method"},
		{name: "OPTIONS *", send: head("OPTIONS * HTTP/1.1"), status: 405, code: "Client", reason: "method"},
		{name: "a path without a service", rig: one(func(r *rig) {
			s := service(callback.DeviceUsage)
			s.Path = "/usage"
			r.options.Listeners = []receiver.Listener{listener(r.t, s)}
		}), send: body(message()), status: 404, code: "Client", reason: "path"},
		{name: "an address that is not allowed", rig: one(func(r *rig) {
			r.network(auth.Config{Mode: auth.Enforce, Allow: []string{"192.0.2.1"}})
		}), send: body(message()), status: 403, code: "Client", reason: "network", closed: true, text: "allow list"},
		{name: "JSON", send: body(`{"requestId":"1"}`, "Content-Type: application/json; charset=utf-8"), status: 415, code: "Client", reason: "media_type",
			text: "this is the SOAP listener", header: [2]string{"Accept", "text/xml, application/soap+xml"}},
		{name: "a JSON relative", send: body(`{}`, "Content-Type: application/problem+json"), status: 415, code: "Client", reason: "media_type"},
		{name: "JSON that does not say so", send: body(" \r\n{\"requestId\":\"1\"}"), status: 415, code: "Client", reason: "media_type", text: "this is the SOAP listener"},
		{name: "a form", send: body(`a=b`, "Content-Type: application/x-www-form-urlencoded"), status: 415, code: "Client", reason: "media_type", text: "this is the SOAP listener"},
		{name: "a form in parts", send: body(`--x--`, "Content-Type: multipart/form-data; boundary=x"), status: 415, code: "Client", reason: "media_type"},
		{name: "an unknown Content-Encoding", send: body(message(), "Content-Encoding: br"), status: 415, code: "Client", reason: "content_encoding", header: [2]string{"Accept-Encoding", "gzip, identity"}},
		{name: "gzip twice", send: body(gzipped(gzipped(message())), "Content-Encoding: gzip, gzip"), status: 415, code: "Client", reason: "content_encoding"},
		{name: "gzip twice, in two lines", send: body(gzipped(gzipped(message())), "Content-Encoding: gzip", "Content-Encoding: gzip"), status: 415, code: "Client", reason: "content_encoding"},
		{name: "gzip that is none", send: body(message(), "Content-Encoding: gzip"), status: 400, code: "Client", reason: "gzip", closed: true},
		{name: "gzip of nothing", send: body("", "Content-Encoding: gzip"), status: 400, code: "Client", reason: "gzip", closed: true},
		{name: "gzip cut short", send: body(gzipped(message())[:100], "Content-Encoding: gzip"), status: 400, code: "Client", reason: "gzip", closed: true},
		{name: "gzip with a wrong checksum", send: body(wrongChecksum(message()), "Content-Encoding: gzip"), status: 400, code: "Client", reason: "gzip", closed: true},
		{name: "gzip and something after it", send: body(gzipped(message())+"garbage", "Content-Encoding: gzip"), status: 400, code: "Client", reason: "gzip", closed: true},
		{name: "a body that says it is too long", rig: one(small), send: func(c *conn) { c.send("", usual(1<<20)...) }, status: 413, code: "Client", reason: "too_large", closed: true},
		{name: "a chunked body that turns out too long", rig: one(small), send: func(c *conn) {
			c.send(chunked(strings.Repeat("x", 200<<10)), "POST / HTTP/1.1", "Host: callbackd", "Transfer-Encoding: chunked")
		}, status: 413, code: "Client", reason: "too_large", closed: true},
		{name: "a gzip bomb", rig: one(small), send: body(gzipped(strings.Repeat(" ", 8<<20)), "Content-Encoding: gzip"), status: 413, code: "Client", reason: "too_large", closed: true},
		{name: "too deep", send: body(hostile), status: 413, code: "Client", reason: "limit"},
		{name: "an encoding that is not read", send: body(message(), "Content-Type: text/xml; charset=ebcdic-cp-us"), status: 400, code: "Client", reason: "encoding"},
		{name: "a mandatory header block", send: body(edit(message(), "<s:Body ", `<s:Header><x:Token xmlns:x="urn:x" s:mustUnderstand="1"/></s:Header><s:Body `)),
			status: 400, code: "MustUnderstand", reason: "must_understand"},
		{name: "a mandatory header block of SOAP 1.2", send: body(soap12(edit(message(), "<s:Body ", `<s:Header><x:Token xmlns:x="urn:x" s:mustUnderstand="true"/></s:Header><s:Body `))),
			status: 400, code: "MustUnderstand", reason: "must_understand", soap12: true},
		{name: "an envelope of another namespace", send: body(edit(message(), soap.Namespace11, "urn:soap")), status: 400, code: "VersionMismatch", reason: "version_mismatch"},
		{name: "nothing", send: body(""), status: 400, code: "Client", reason: "malformed"},
		{name: "no XML", send: body("hello"), status: 400, code: "Client", reason: "malformed"},
		{name: "XML that is not well-formed", send: body(broken), status: 400, code: "Client", reason: "malformed", text: "line"},
		{name: "the same in SOAP 1.2", send: body(soap12(broken)), status: 400, code: "Sender", reason: "malformed", soap12: true},
		{name: "the password twice", send: body(message("<RequestId>", "<Password>x</Password><RequestId>")), status: 400, code: "Client", reason: "malformed", text: "twice"},
		{name: "a wrong password", send: body(message(password, "guess")), status: 401, code: "Client", reason: "credentials", header: [2]string{"WWW-Authenticate", `Callback realm="Username and Password in the message"`}},
		{name: "a wrong password in SOAP 1.2", send: body(soap12(message(password, "guess"))), status: 401, code: "Sender", reason: "credentials", soap12: true},
		{name: "the empty pair", send: body(message(">acme<", "><", password, "")), status: 401, code: "Client", reason: "credentials"},
		{name: "off the schema, enforced", rig: one(validation(receiver.Enforce)), send: body(message("<Kind>Mdn</Kind>", "")), status: 400, code: "Client", reason: "schema", text: "CallbackRequest/Device"},
		{name: "a body that does not come", rig: one(func(r *rig) { r.options.Limits.Read = 400 * time.Millisecond }), send: func(c *conn) { c.send("<s:", usual(1000)...) },
			status: 408, code: "Client", reason: "timeout", closed: true},
		{name: "a body that breaks off", send: func(c *conn) {
			c.send(message()[:300], usual(len(message()))...)
			c.hangUp()
		}, status: 400, code: "Client", reason: "aborted", closed: true, text: "did not arrive whole"},
		{name: "chunks that are none", send: func(c *conn) {
			c.send("zz\r\n", "POST / HTTP/1.1", "Host: callbackd", "Transfer-Encoding: chunked")
		}, status: 400, code: "Client", reason: "aborted", closed: true},
		{name: "no memory left", rig: one(func(r *rig) {
			r.options.InFlight, r.options.Limits.Message.Bytes, r.options.AckBudget = 256<<10, 64<<10, 4*time.Millisecond
		}), first: func(r *rig) { r.occupy(2, 64<<10) }, send: body(message()), status: 503, code: "Server", reason: "in_flight", closed: true, header: serverFault},
		{name: "a queue too long to be acknowledged in time", rig: failing(fmt.Errorf("%w: 300 appends are queued", inbox.ErrOverloaded)), send: body(message()),
			status: 503, code: "Server", reason: "overloaded", header: serverFault},
		{name: "the store cannot take it", rig: failing(fmt.Errorf("%w: /var/lib/callbackd is full", inbox.ErrUnavailable)), send: body(message()),
			status: 503, code: "Server", reason: "store_unavailable", header: serverFault},
		{name: "the same in SOAP 1.2", rig: failing(inbox.ErrUnavailable), send: body(soap12(message())), status: 503, code: "Receiver", reason: "store_unavailable", header: serverFault, soap12: true},
		{name: "the disk is nearly full", rig: one(func(r *rig) {
			r.options.Shed = func() error { return fmt.Errorf("%w: 3 bytes are left", receiver.ErrDiskFull) }
		}),
			send: func(c *conn) { c.send("", usual(1000)...) }, status: 503, code: "Server", reason: "disk_full", closed: true, header: serverFault},
		{name: "the store is broken", rig: failing(fmt.Errorf("%w: fsync: input/output error", inbox.ErrBroken)), send: body(message()),
			status: 503, code: "Server", reason: "store_broken", header: serverFault},
		{name: "the store is closed", rig: failing(inbox.ErrClosed), send: body(message()), status: 503, code: "Server", reason: "closing", closed: true, header: serverFault},
		{name: "a panic", rig: one(wrap(func(context.Context, inbox.Arrival, receiver.Store) (inbox.Receipt, error) { panic("at 3124705797") })), send: body(message()),
			status: 503, code: "Server", reason: "panic", closed: true, header: serverFault},
		{name: "what nobody foresaw", rig: failing(errors.New("dial tcp 10.0.0.7:5432")), send: body(message()), status: 503, code: "Server", reason: "internal", header: serverFault},
		{name: "SOAP 1.2 by its Content-Type alone", send: head("GET / HTTP/1.1", "Content-Type: application/soap+xml"), status: 405, code: "Sender", reason: "method", soap12: true},
	}
}

// TestRefusals goes through the table: the answer to each refusal is a SOAP fault of the request's version that blames the right
// side, it is counted under exactly one reason, and it tells nothing of the inside.
func TestRefusals(t *testing.T) {
	t.Parallel()
	shared := start(t)
	for _, tt := range refusalCases() {
		t.Run(tt.name, func(t *testing.T) {
			r := shared.on(t)
			if tt.rig != nil {
				t.Parallel()
				r = start(t, tt.rig...)
			}
			r.forget()
			if tt.first != nil {
				tt.first(r)
			}
			c := r.dial()
			tt.send(c)
			a := c.answer()
			if a.status != tt.status {
				t.Errorf("status %d, want %d: %s", a.status, tt.status, a.body)
			}
			if a.closed != tt.closed {
				t.Errorf("the connection closes: %v, want %v", a.closed, tt.closed)
			}
			if name := tt.header[0]; name != "" && a.header.Get(name) != tt.header[1] {
				t.Errorf("%s is %q, want %q", name, a.header.Get(name), tt.header[1])
			}
			if again := a.header.Get("Retry-After") != ""; again != (tt.status == http.StatusServiceUnavailable) {
				t.Errorf("Retry-After given: %v, with status %d", again, tt.status)
			}
			tt.checkFault(t, a)
			r.counted(tt.reason)
			if n := len(r.log.lines(`"msg":"refused"`)); n != 1 {
				t.Errorf("%d lines of log, want 1", n)
			}
			for _, secret := range []string{password, "guess", "3124705797", "auto resumed"} {
				if strings.Contains(r.log.String(), secret) {
					t.Errorf("the log tells %q: %s", secret, r.log)
				}
			}
			if entries := r.entries(); len(entries) > 0 {
				t.Errorf("%d entries in the inbox", len(entries))
			}
			if tt.first == nil {
				r.eventually("the memory is given back", func() bool { return r.metric("callbackd_in_flight_bytes") == 0 })
			}
			if tt.closed {
				c.ended()
				return
			}
			c.send("", "GET / HTTP/1.1", "Host: callbackd")
			if next := c.answer().status; next != http.StatusMethodNotAllowed && next != tt.status {
				t.Errorf("the next request on the connection gets %d", next)
			}
		})
	}
}

// checkFault reads the answer as package soap reads a message.
func (tt *refusalCase) checkFault(t *testing.T, a answer) {
	t.Helper()
	version, media, space := soap.V11, "text/xml; charset=utf-8", soap.Namespace11
	if tt.soap12 {
		version, media, space = soap.V12, "application/soap+xml; charset=utf-8", soap.Namespace12
	}
	if got := a.header.Get("Content-Type"); got != media {
		t.Errorf("Content-Type %q, want %q", got, media)
	}
	var s soap.Scanner
	s.Reset(a.body, soap.Limits{})
	envelope, err := soap.Open(&s)
	if err != nil {
		t.Fatalf("the answer is no SOAP message: %v\n%s", err, a.body)
	}
	if envelope.Version != version || s.Name() != (soap.Name{Space: space, Local: "Fault"}) {
		t.Errorf("the answer is a %s of SOAP %s, want a Fault of %s", s.Name(), envelope.Version, version)
	}
	var texts []string
	for s.Depth() > 2 {
		token, err := s.Next()
		if err != nil {
			t.Fatalf("read the fault: %v", err)
		}
		if token == soap.Text {
			texts = append(texts, s.Text())
		}
	}
	if err := soap.Close(&s, envelope); err != nil {
		t.Errorf("after the fault: %v", err)
	}
	if len(texts) != 2 || texts[0] != "s:"+tt.code || !strings.Contains(texts[1], tt.text) {
		t.Errorf("the fault says %q, want s:%s and a text with %q", texts, tt.code, tt.text)
	}
	for _, secret := range []string{password, "guess", "3124705797", "resumed", "/var/lib", "10.0.0.7", "input/output", "127.0.0.1", ".go", "goroutine"} {
		if strings.Contains(a.body, secret) {
			t.Errorf("the answer tells %q: %s", secret, a.body)
		}
	}
}

// TestEveryReasonHasACase holds the table of the code against the table of this test.
func TestEveryReasonHasACase(t *testing.T) {
	t.Parallel()
	cases := map[string]bool{}
	for _, tt := range refusalCases() {
		cases[tt.reason] = true
	}
	r := start(t)
	for labels := range r.samples("callbackd_refusals_total") {
		reason, name := label(labels, "reason"), label(labels, "service")
		if !cases[reason] {
			t.Errorf("no test brings about a refusal with reason %q", reason)
		}
		if _, ok := callback.Lookup(name); !ok {
			t.Errorf("service %q is not in the catalogue", name)
		}
	}
}

// small makes the largest message 64 KiB.
func small(r *rig) { r.options.Limits.Message.Bytes = 64 << 10 }

func validation(v receiver.Validation) func(*rig) {
	return func(r *rig) {
		s := service(callback.ResumeTrackingNotification)
		s.Validation = v
		r.options.Listeners = []receiver.Listener{listener(r.t, s)}
	}
}
