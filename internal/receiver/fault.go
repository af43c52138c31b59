package receiver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"

	"callbackd/internal/auth"
	"callbackd/internal/inbox"
	"callbackd/internal/soap"
)

// The refusals that begin here.
var (
	errMethod    = errors.New("only POST is accepted here; GET with ?wsdl describes the service")
	errPath      = errors.New("no callback service at this path")
	errMediaType = errors.New("this is a SOAP listener: register the URL over SOAP, or send text/xml")
	errContent   = errors.New("this Content-Encoding is not accepted: send gzip or none")
	errTooLarge  = errors.New("the message is larger than this listener accepts")
	errInFlight  = errors.New("too many bytes in flight")
	errSchema    = errors.New("the message breaks the schema")
	errTimeout   = errors.New("the request did not arrive in time")
	errAborted   = errors.New("the request ended before its body")
	errPanic     = errors.New("internal error")
)

// refusal is how one class of errors is answered and counted.
type refusal struct {
	is     error
	status int
	code   soap.Code
	reason string // the metric's label: exactly one for each refusal
	// text is what the sender gets to read; empty: the error's own text, which then holds nothing internal.
	text string
}

// refusals is the one table from errors to answers. The first that matches counts; what none matches is our own failure. A
// Client fault is only for what the sender got wrong: whatever is our fault is 503, so that the platform tries again.
var refusals = []refusal{
	{errMethod, http.StatusMethodNotAllowed, soap.Client, "method", ""},
	{errPath, http.StatusNotFound, soap.Client, "path", ""},
	{auth.ErrNetwork, http.StatusForbidden, soap.Client, "network", "this address is not on the allow list"},
	{errMediaType, http.StatusUnsupportedMediaType, soap.Client, "media_type", ""},
	{errContent, http.StatusUnsupportedMediaType, soap.Client, "content_encoding", ""},
	{errTooLarge, http.StatusRequestEntityTooLarge, soap.Client, "too_large", ""},
	{soap.ErrLimit, http.StatusRequestEntityTooLarge, soap.Client, "limit", ""},
	{soap.ErrEncoding, http.StatusBadRequest, soap.Client, "encoding", ""},
	{soap.ErrMustUnderstand, http.StatusBadRequest, soap.MustUnderstand, "must_understand", ""},
	{soap.ErrVersionMismatch, http.StatusBadRequest, soap.VersionMismatch, "version_mismatch", ""},
	{soap.ErrMalformed, http.StatusBadRequest, soap.Client, "malformed", ""},
	{auth.ErrCredentials, http.StatusUnauthorized, soap.Client, "credentials", "Username and Password of the message are not valid here"},
	{errSchema, http.StatusBadRequest, soap.Client, "schema", ""},
	{errTimeout, http.StatusRequestTimeout, soap.Client, "timeout", ""},
	{errAborted, http.StatusBadRequest, soap.Client, "aborted", ""},
	{errInFlight, http.StatusServiceUnavailable, soap.Server, "in_flight", "busy, try again"},
	{inbox.ErrOverloaded, http.StatusServiceUnavailable, soap.Server, "overloaded", "busy, try again"},
	{inbox.ErrUnavailable, http.StatusServiceUnavailable, soap.Server, "store_unavailable", "cannot store now, try again"},
	{inbox.ErrBroken, http.StatusServiceUnavailable, soap.Server, "store_broken", "cannot store now, try again"},
	{inbox.ErrClosed, http.StatusServiceUnavailable, soap.Server, "closing", "shutting down, try again"},
}

// internal is the answer to an error that nobody foresaw.
var internal = refusal{errPanic, http.StatusServiceUnavailable, soap.Server, "internal", "internal error, try again"}

func classify(err error) refusal {
	for _, r := range refusals {
		if errors.Is(err, r.is) {
			return r
		}
	}
	return internal
}

// retryAfter is what our own failures tell the sender. The platform is not known to heed it; others do.
const retryAfter = "5"

// refuse writes the answer to err, in the SOAP version of the request as far as that is known.
func refuse(w http.ResponseWriter, r refusal, err error, version soap.Version) {
	text := r.text
	if text == "" {
		text = err.Error()
	}
	body := soap.Fault(version, r.code, text)
	h := w.Header()
	h.Set("Content-Type", version.ContentType())
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	switch r.status {
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", retryAfter)
	case http.StatusUnauthorized:
		// HTTP asks for a challenge. There is none to answer: the credentials travel in the message.
		h.Set("WWW-Authenticate", `Callback realm="Username and Password in the message"`)
	case http.StatusMethodNotAllowed:
		h.Set("Allow", "GET, POST")
	case http.StatusRequestEntityTooLarge, http.StatusRequestTimeout:
		// What is left of the body is not worth reading.
		h.Set("Connection", "close")
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(body) // the sender may be gone
}

// readError tells apart what may go wrong while a body is read.
func readError(err error) error {
	var tooLarge *http.MaxBytesError
	var network net.Error
	switch {
	case errors.As(err, &tooLarge):
		return errTooLarge
	case errors.As(err, &network) && network.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return errTimeout
	}
	return errors.Join(errAborted, err)
}
