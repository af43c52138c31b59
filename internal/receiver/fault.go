package receiver

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"callbackd/internal/auth"
	"callbackd/internal/inbox"
	"callbackd/internal/soap"
)

// The refusals that begin here.
var (
	errMethod          = errors.New("callbacks are sent with POST; GET with ?wsdl describes the service")
	errPath            = errors.New("no callback service at this path")
	errMediaType       = errors.New("this is the SOAP listener: send text/xml, and register the URL of a REST service elsewhere")
	errContentEncoding = errors.New("this Content-Encoding is not accepted: send gzip or none")
	errGzip            = errors.New("the body is not the gzip stream that its Content-Encoding says it is")
	errTooLarge        = errors.New("the message is larger than this listener accepts")
	errInFlight        = errors.New("too many bytes in flight")
	errSchema          = errors.New("the message breaks the schema")
	errTimeout         = errors.New("the request did not arrive in time")
	errAborted         = errors.New("the request's body did not arrive whole")
	errPanic           = errors.New("panic")
)

// ErrDiskFull is a disk with too little room left: what is taken now might find none.
var ErrDiskFull = errors.New("the disk is nearly full")

// refusal is how one class of errors is answered and counted.
type refusal struct {
	is     error
	status int
	code   soap.Code
	reason string // the metric's label: exactly one for each refusal
	end    fate
	// text is what the sender gets to read; empty: what is told of the error, which then holds nothing internal.
	text string
}

// fate is what becomes of the connection.
type fate bool

const (
	keep fate = false
	hang fate = true // up: what is left of the request is not worth reading, or cannot be told from the next one
)

// refusals is the one table from errors to answers. The first that matches counts; what none matches is our own failure. A
// Client fault is only for what the sender got wrong: whatever is our fault is 503, so that the platform tries again.
var refusals = []refusal{
	{errMethod, http.StatusMethodNotAllowed, soap.Client, "method", keep, ""},
	{errPath, http.StatusNotFound, soap.Client, "path", keep, ""},
	{auth.ErrNetwork, http.StatusForbidden, soap.Client, "network", hang, "this address is not on the allow list"},
	{errMediaType, http.StatusUnsupportedMediaType, soap.Client, "media_type", keep, ""},
	{errContentEncoding, http.StatusUnsupportedMediaType, soap.Client, "content_encoding", keep, ""},
	{errGzip, http.StatusBadRequest, soap.Client, "gzip", hang, ""},
	{errTooLarge, http.StatusRequestEntityTooLarge, soap.Client, "too_large", hang, ""},
	{soap.ErrLimit, http.StatusRequestEntityTooLarge, soap.Client, "limit", keep, ""},
	{soap.ErrEncoding, http.StatusBadRequest, soap.Client, "encoding", keep, ""},
	{soap.ErrMustUnderstand, http.StatusBadRequest, soap.MustUnderstand, "must_understand", keep, ""},
	{soap.ErrVersionMismatch, http.StatusBadRequest, soap.VersionMismatch, "version_mismatch", keep, ""},
	{soap.ErrMalformed, http.StatusBadRequest, soap.Client, "malformed", keep, ""},
	{auth.ErrCredentials, http.StatusUnauthorized, soap.Client, "credentials", keep, "Username and Password of the message are not valid here"},
	{errSchema, http.StatusBadRequest, soap.Client, "schema", keep, ""},
	{errTimeout, http.StatusRequestTimeout, soap.Client, "timeout", hang, ""},
	{errAborted, http.StatusBadRequest, soap.Client, "aborted", hang, errAborted.Error()},
	{errInFlight, http.StatusServiceUnavailable, soap.Server, "in_flight", hang, "busy, try again"},
	{ErrDiskFull, http.StatusServiceUnavailable, soap.Server, "disk_full", hang, "cannot store now, try again"},
	{inbox.ErrOverloaded, http.StatusServiceUnavailable, soap.Server, "overloaded", keep, "busy, try again"},
	{inbox.ErrUnavailable, http.StatusServiceUnavailable, soap.Server, "store_unavailable", keep, "cannot store now, try again"},
	{inbox.ErrBroken, http.StatusServiceUnavailable, soap.Server, "store_broken", keep, "cannot store now, try again"},
	{inbox.ErrClosed, http.StatusServiceUnavailable, soap.Server, "closing", hang, "shutting down, try again"},
	{errPanic, http.StatusServiceUnavailable, soap.Server, "panic", hang, "internal error, try again"},
}

// internal is the answer to an error that nobody foresaw.
var internal = refusal{nil, http.StatusServiceUnavailable, soap.Server, "internal", keep, "internal error, try again"}

func classify(err error) refusal {
	for _, r := range refusals {
		if errors.Is(err, r.is) {
			return r
		}
	}
	return internal
}

const (
	// retryAfter is what our own failures tell the sender. The platform is not known to heed it; others do.
	retryAfter = "5"
	// linger is how long what is left of a refused request is still read, so that its sender gets to see the answer. After an early
	// refusal of "Expect: 100-continue" net/http would wait for the body as long as for any other.
	linger = time.Second
)

// refuse writes the answer to err.
func refuse(w http.ResponseWriter, r refusal, err error, version soap.Version) {
	text := r.text
	if text == "" {
		text = told(err)
	}
	body := soap.Fault(version, r.code, text)
	h := w.Header()
	h.Set("Content-Type", version.ContentType())
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	switch {
	case r.status == http.StatusServiceUnavailable:
		h.Set("Retry-After", retryAfter)
	case r.status == http.StatusUnauthorized:
		// HTTP asks for a challenge. There is none to answer: the credentials travel in the message.
		h.Set("WWW-Authenticate", `Callback realm="Username and Password in the message"`)
	case r.status == http.StatusMethodNotAllowed:
		h.Set("Allow", "GET, HEAD, POST")
	case r.is == errMediaType:
		h.Set("Accept", "text/xml, application/soap+xml")
	case r.is == errContentEncoding:
		h.Set("Accept-Encoding", "gzip, identity")
	}
	if r.end == hang {
		h.Set("Connection", "close")
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(linger)) // if it fails, the time-outs of the server hold
	w.WriteHeader(r.status)
	_, _ = w.Write(body) // the sender may be gone
}
