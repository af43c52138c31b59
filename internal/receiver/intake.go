package receiver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/inbox"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"

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
	form     Ack // of the acknowledgement
	memory   *part
	counters *serviceMetrics
	log      *zap.Logger
	ordinary atomic.Uint64 // acknowledgements with nothing out of the ordinary
	media    atomic.Pointer[media]
	// lost is set on the intake of what was sent to a path without a service. It is counted for the first service of the
	// listener, which is most often the only one.
	lost bool
}

func (in *intake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := &event{from: time.Now(), err: errPanic}
	if in.o.Tracer != nil {
		e.trace = in.traced(r)
	}
	defer in.finish(e)
	defer in.guard(w, e)
	if len(r.TransferEncoding) > 0 {
		// It may have borne a Content-Length as well, which net/http drops without a word: then where it ends is a matter of opinion,
		// and nothing more may be read from the connection (RFC 9112, section 6.1).
		w.Header().Set("Connection", "close")
	}
	if err := in.serve(w, r, e); err != nil {
		in.refuse(w, e, err)
	}
}

// guard answers a panic: the message was not stored, so the platform has to try again.
func (in *intake) guard(w http.ResponseWriter, e *event) {
	p := recover()
	if p == nil {
		return
	}
	in.logPanic("panic while receiving", p)
	if e.outcome != acked {
		in.refuse(w, e, errPanic)
	}
}

// logPanic logs a panic without its value, unless that is the runtime's own: any other may quote the message.
func (in *intake) logPanic(what string, p any) {
	cause := fmt.Sprintf("%T", p)
	var fault runtime.Error
	if err, ok := p.(error); ok && errors.As(err, &fault) {
		cause = fault.Error()
	}
	in.log.Error(what, zap.String("cause", cause), zap.ByteString("stack", debug.Stack()))
}

func (in *intake) refuse(w http.ResponseWriter, e *event, err error) {
	e.outcome, e.err, e.refusal = refused, err, classify(err)
	in.lastAnswer(w)
	refuse(w, e.refusal, err, e.version)
}

func (in *intake) serve(w http.ResponseWriter, r *http.Request, e *event) error {
	origin, err := in.o.Network.Load().Admit(in.service.Info.Service, r.RemoteAddr, r.Header["X-Forwarded-For"])
	e.source = origin.Addr
	e.contentType = r.Header.Get("Content-Type")
	charset, familiar, mediaErr := in.mediaType(e.contentType)
	if strings.HasPrefix(e.contentType, "application/soap+xml") {
		e.version = soap.V12 // until the envelope says better
	}
	switch {
	case err != nil:
		return err
	case !slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodPost}, r.Method):
		return errMethod
	case in.lost:
		return errPath
	case asksForWSDL(r):
		return in.describe(w, r, e)
	case r.Method != http.MethodPost:
		return errMethod
	case mediaErr != nil:
		return mediaErr
	}
	if in.o.Shed != nil {
		if err := in.o.Shed(); err != nil {
			return err
		}
	}
	e.unfamiliar = !familiar
	if err := in.take(w, r, e, charset); err != nil {
		return err
	}
	in.ack(w, r, e)
	return nil
}

// take is the way of one message into the inbox. Nothing after Append can fail.
func (in *intake) take(w http.ResponseWriter, r *http.Request, e *event, charset string) error {
	patience := in.o.AckBudget / 4
	memory := share{part: in.memory, patience: patience, waits: in.counters.memoryWaits}
	defer memory.release()
	options := thingspace.ReadOptions{Charset: charset, Limits: in.o.Limits.Message, Key: true}
	read := e.trace.step("read")
	body, err := readBody(w, r, in.o.Limits.Message.Bytes, &memory)
	e.bytes = len(body)
	deadline := time.Now().Add(in.o.AckBudget - patience + memory.patience)
	if err != nil {
		read.end(err)
		in.salvage(e, body, options)
		return err
	}
	m, err := thingspace.Read(body, options)
	read.end(err)
	if err != nil {
		if in.salvage(e, body, options); errors.Is(err, soap.ErrMalformed) && isJSON(body) {
			return errMediaType
		}
		return err
	}
	e.message, e.version, e.letter = m, m.SOAP, letterOf(m)
	if err := in.judge(r, e, m); err != nil {
		return err
	}
	return in.store(r, e, m, deadline)
}

// salvage keeps what can be known of a message that could not be read.
func (in *intake) salvage(e *event, body []byte, o thingspace.ReadOptions) {
	version, l := salvage(body, o)
	e.letter = l
	if version != soap.Bare {
		e.version = version
	}
}

// store appends the message to the inbox. Only the deadline decides on its admission: a sender that has gone changes nothing.
func (in *intake) store(r *http.Request, e *event, m *thingspace.Message, deadline time.Time) (err error) {
	arrival := in.arrival(r, e, m)
	e.entry = arrival.Entry
	appending := e.trace.step("append")
	e.receipt, err = in.o.Store.Append(until{context.WithoutCancel(r.Context()), deadline}, arrival)
	appending.end(err)
	return err
}

// until is a context that is over at a time, which an append asks for once and does not wait for: so it needs no timer.
type until struct {
	context.Context
	at time.Time
}

func (u until) Deadline() (time.Time, bool) { return u.at, true }

func (u until) Err() error {
	if !time.Now().Before(u.at) {
		return context.DeadlineExceeded
	}
	return nil
}

// arrival is what the inbox stores of a message.
func (in *intake) arrival(r *http.Request, e *event, m *thingspace.Message) inbox.Arrival {
	test := testMode(r)
	cb := &m.Callback
	service := in.service.Info.Service
	key := m.Key(service, e.account, test != NotTest)
	facts := inbox.Facts{
		Source: e.sourceText(), Credential: e.credential,
		Root: m.Root, SOAP: m.SOAP.String(), Encoding: m.Encoding, ContentType: bounded(e.contentType),
		Attempt: cb.CallbackCount, MaxAttempts: cb.MaxCallbackThreshold,
		Extensions: m.Extensions, ExtensionCount: m.ExtensionCount,
		SecondOpinion: e.opinion, Misrouted: e.misrouted, Test: test != NotTest, Related: related(cb), Trace: e.trace.parent(),
	}
	for _, d := range cb.Devices {
		facts.Devices = append(facts.Devices, inbox.Device(d))
	}
	for _, v := range e.violations {
		facts.Violations = append(facts.Violations, inbox.Violation(v))
	}
	a := inbox.Arrival{
		Entry: inbox.Entry{
			ID: newID(), ReceivedAt: e.from, Service: string(service), Kind: string(cb.Kind), Account: e.account,
			RequestID: cb.RequestID, Facts: facts, Body: m.Stored(),
		},
		Key:    inbox.NewKey(cb.RequestID, key.Hash),
		Repeat: key.Repeat,
		Held:   e.held,
	}
	if !e.held {
		a.Handlers = in.o.Route(service, cb.Kind, test)
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

// testMode reads the mark of a test. One that is not known is that of a newer sender, whose tests are not to reach real handlers.
func testMode(r *http.Request) TestMode {
	switch r.Header.Get(TestHeader) {
	case "":
		return NotTest
	case TestDelivered:
		return TestDeliver
	}
	return Test
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

// ack tells the sender. If it does not get to hear it, its next attempt is a duplicate.
func (in *intake) ack(w http.ResponseWriter, r *http.Request, e *event) {
	e.outcome = acked
	h := w.Header()
	body := acks[e.version]
	if in.form == AckEmpty {
		body = nil
	} else {
		h.Set("Content-Type", e.version.ContentType())
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	in.lastAnswer(w)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // what comes of it shows after the request has been counted
	e.unheard = r.Context().Err() != nil
}
