package receiver

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/inbox"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"
	"callbackd/wsdl"

	"github.com/google/uuid"
	"go.uber.org/zap"
)

// TestHeader marks a message that an operator sends with `callbackd send`. It counts only on an authenticated message.
const (
	TestHeader    = "Callbackd-Test"
	TestStored    = "store"
	TestDelivered = "deliver"
)

// intake takes the callbacks of one service.
type intake struct {
	*Receiver
	service  Service
	counters *serviceMetrics
}

func (in *intake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && wantsWSDL(r) {
		in.serveWSDL(w, r)
		return
	}
	e := &event{from: time.Now(), service: in.service.Info.Service, request: r}
	defer in.finish(e)
	defer in.guard(w, e)
	if err := in.take(w, r, e); err != nil {
		in.refuse(w, e, err)
		return
	}
	in.ack(w, e)
}

// guard answers a panic: the message was not stored, so the platform has to try again.
func (in *intake) guard(w http.ResponseWriter, e *event) {
	p := recover()
	if p == nil {
		return
	}
	in.o.Log.Error("panic while receiving", zap.String("service", string(e.service)), zap.ByteString("stack", debug.Stack()))
	in.refuse(w, e, fmt.Errorf("%w: panic", errPanic))
}

func (in *intake) refuse(w http.ResponseWriter, e *event, err error) {
	e.err, e.refusal = err, classify(err)
	if in.draining.Load() {
		w.Header().Set("Connection", "close")
	}
	refuse(w, e.refusal, err, e.version)
}

// take is the way of one message into the inbox. Nothing after Append can fail.
func (in *intake) take(w http.ResponseWriter, r *http.Request, e *event) error {
	origin, err := in.o.Network.Load().Admit(e.service, r.RemoteAddr, r.Header["X-Forwarded-For"])
	e.source = origin.Addr
	if err != nil {
		return err
	}
	if r.Method != http.MethodPost {
		return errMethod
	}
	e.contentType = r.Header.Get("Content-Type")
	charset, familiar, err := mediaType(e.contentType)
	if err != nil {
		return err
	}
	if !familiar {
		in.counters.unfamiliarMedia.Inc()
	}
	memory := share{budget: in.budget}
	defer memory.release()
	body, err := readBody(w, r, in.o.Limits.Message.Bytes, &memory)
	e.bytes = len(body)
	if err != nil {
		return err
	}
	m, err := thingspace.Read(body, thingspace.ReadOptions{Charset: charset, Limits: in.o.Limits.Message})
	if err != nil {
		return err
	}
	e.message, e.version = m, m.SOAP
	return in.judge(r, e, m)
}

// judge decides on a well-formed message: who sent it, whether it is what the schema says, and where it goes.
func (in *intake) judge(r *http.Request, e *event, m *thingspace.Message) error {
	match, err := in.o.Credentials.Load().Check(e.service, m.Username, m.Password)
	if err != nil {
		return err
	}
	e.account, e.credential = match.Label, match.ID
	violations, err := in.o.Validator.Validate(r.Context(), m)
	if err != nil {
		return fmt.Errorf("validate: %w", err)
	}
	e.violations = violations
	in.counters.judged(m, violations)
	if len(violations) > 0 && in.service.Validation == Enforce {
		return fmt.Errorf("%w: %s", errSchema, violations[0])
	}
	e.held = len(violations) > 0 && in.service.Validation == Quarantine
	e.misrouted = !in.service.Info.Carries(m.Callback.Kind)

	ctx, cancel := context.WithDeadline(context.WithoutCancel(r.Context()), e.from.Add(in.o.AckBudget))
	defer cancel()
	e.receipt, err = in.o.Store.Append(ctx, in.arrival(r, e, m))
	return err
}

// arrival is what the inbox stores of a message.
func (in *intake) arrival(r *http.Request, e *event, m *thingspace.Message) inbox.Arrival {
	test := testMode(r)
	cb := &m.Callback
	key := m.Key(e.service, e.account, test != NotTest)
	facts := inbox.Facts{
		Source: e.source.String(), Credential: e.credential,
		Root: m.Root, SOAP: m.SOAP.String(), Encoding: m.Encoding, ContentType: bounded(e.contentType),
		Attempt: cb.CallbackCount, MaxAttempts: cb.MaxCallbackThreshold,
		Extensions: m.Extensions, ExtensionCount: m.ExtensionCount,
		Misrouted: e.misrouted, Test: test != NotTest, Related: related(cb),
	}
	for _, d := range cb.Devices {
		facts.Devices = append(facts.Devices, inbox.Device(d))
	}
	for _, v := range e.violations {
		facts.Violations = append(facts.Violations, inbox.Violation(v))
	}
	a := inbox.Arrival{
		Entry: inbox.Entry{
			ID: newID(), ReceivedAt: e.from, Service: string(e.service), Kind: string(cb.Kind), Account: e.account,
			RequestID: cb.RequestID, Facts: facts, Body: m.Stored(),
		},
		Key:    inbox.NewKey(cb.RequestID, key.Hash),
		Repeat: key.Repeat,
		Held:   e.held,
	}
	if !e.held {
		a.Handlers = in.o.Route(e.service, cb.Kind, test)
	}
	return a
}

// related are the identifiers that stand elsewhere in the message than where its device does.
func related(cb *callback.Callback) []string {
	var list []string
	for _, d := range cb.RelatedDevices() {
		list = append(list, d.Identifier)
	}
	return list
}

// newID is a fresh name for an entry; those of one millisecond and later sort in order.
func newID() string {
	id, err := uuid.NewV7()
	if err != nil {
		// The system's randomness is gone: nothing can be stored under a name of its own.
		panic(err)
	}
	return id.String()
}

func testMode(r *http.Request) TestMode {
	switch r.Header.Get(TestHeader) {
	case TestStored:
		return Test
	case TestDelivered:
		return TestDeliver
	}
	return NotTest
}

// bounded keeps a header short enough to be stored with every entry.
func bounded(header string) string {
	const longest = 128
	return strings.ToValidUTF8(header[:min(len(header), longest)], "")
}

// acks are prepared once.
var acks = map[soap.Version][]byte{
	soap.Bare: soap.Ack(soap.V11), soap.V11: soap.Ack(soap.V11), soap.V12: soap.Ack(soap.V12),
}

func (in *intake) ack(w http.ResponseWriter, e *event) {
	h := w.Header()
	if in.draining.Load() {
		h.Set("Connection", "close")
	}
	if in.o.Ack == AckEmpty {
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
		return
	}
	body := acks[e.version]
	h.Set("Content-Type", e.version.ContentType())
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // the sender may be gone; its next attempt is a duplicate
}

func wantsWSDL(r *http.Request) bool {
	query := strings.ToLower(r.URL.RawQuery)
	return query == "wsdl" || strings.HasPrefix(query, "wsdl=") || query == "singlewsdl"
}

// serveWSDL describes the service at its own address.
func (in *intake) serveWSDL(w http.ResponseWriter, r *http.Request) {
	if _, err := in.o.Network.Load().Admit(in.service.Info.Service, r.RemoteAddr, r.Header["X-Forwarded-For"]); err != nil {
		refuse(w, classify(err), err, soap.V11)
		return
	}
	address := in.service.PublicURL
	if address == "" {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		address = scheme + "://" + r.Host + r.URL.Path
	}
	body, err := wsdl.Listener(address)
	if err != nil {
		refuse(w, internal, err, soap.V11)
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// wrongPath answers what was sent to a path without a service. It is counted for the first service of the listener, which is
// most often the only one.
type wrongPath struct {
	*Receiver
	services []Service
}

func (p *wrongPath) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in := &intake{Receiver: p.Receiver, service: p.services[0], counters: p.o.Metrics.service(p.services[0].Info.Service)}
	e := &event{from: time.Now(), service: in.service.Info.Service, request: r}
	defer in.finish(e)
	origin, err := in.o.Network.Load().Admit(e.service, r.RemoteAddr, r.Header["X-Forwarded-For"])
	e.source = origin.Addr
	if err == nil {
		err = errPath
	}
	in.refuse(w, e, err)
}
