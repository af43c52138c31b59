package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// prefix begins the path of each operation.
const prefix = "/api/v1/"

// Caller is the way that a request came in by.
type Caller string

// The callers.
const (
	Socket Caller = "socket" // the owner of data_dir, or root
	Token  Caller = "token"  // who has the token
)

// Operation is something that an operator asks of a running callbackd.
type Operation struct {
	// Do reads its request and returns its answer, as JSON. The code of its error is that of an [Error]; it is else [Internal].
	Do func(ctx context.Context, by Caller, request json.RawMessage) (any, error)
	// SocketOnly operations are not for who has the token.
	SocketOnly bool
}

// API serves operations by their names.
type API struct {
	operations map[string]Operation
	log        *zap.Logger
}

// NewAPI prepares the API. The log gets a line for each request: the operation, who asked, and what came of it, and nothing of what was
// asked; nil logs nothing.
func NewAPI(operations map[string]Operation, log *zap.Logger) *API {
	if log == nil {
		log = zap.NewNop()
	}
	return &API{operations, log}
}

// entrance is the API as it is reached by one way.
type entrance struct {
	*API
	by Caller
	// token is the digest of what the caller has to know; nil asks for nothing. A reload replaces it.
	token   atomic.Pointer[[sha256.Size]byte]
	strange rate.Sometimes // the log of requests without the token, which anybody can make
}

func (a *API) onSocket() *entrance { return &entrance{API: a, by: Socket} }

func (a *API) withToken(token string) *entrance {
	e := &entrance{API: a, by: Token, strange: rate.Sometimes{Interval: time.Second}}
	e.setToken(token)
	return e
}

func (e *entrance) setToken(token string) {
	digest := sha256.Sum256([]byte(token))
	e.token.Store(&digest)
}

// ServeHTTP implements [http.Handler].
func (e *entrance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from := time.Now()
	w.Header().Set("Cache-Control", "no-store")
	name, operation, err := e.find(w, r)
	var result any
	if err == nil {
		result, err = e.operate(w, r, operation)
	}
	if err == nil {
		e.log.Info("operator request", zap.String("operation", name), zap.String("by", string(e.by)), zap.Duration("took", time.Since(from)))
		answer(w, http.StatusOK, result)
		return
	}
	fault := faultOf(err)
	fields := []zap.Field{zap.String("operation", name), zap.String("by", string(e.by)), zap.String("code", string(fault.Code)),
		zap.Duration("took", time.Since(from))}
	switch fault.Code {
	case Unauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="callbackd"`)
		e.strange.Do(func() {
			e.log.Warn("request to the API without its token", zap.String("source", r.RemoteAddr))
		})
	case Internal, Unavailable:
		if r.Context().Err() != nil {
			e.log.Info("operator request cut short: its caller has gone, or callbackd stops", fields...)
			break
		}
		e.log.Error("operator request failed", append(fields, zap.Error(err))...)
	default:
		e.log.Info("operator request refused", fields...)
	}
	answer(w, fault.Code.Status(), failure{fault.Error(), fault.Code})
}

// find checks all that does not need the body. The name is empty unless there is such an operation.
func (e *entrance) find(w http.ResponseWriter, r *http.Request) (name string, operation Operation, err error) {
	if !e.knows(r.Header.Get("Authorization")) {
		return "", operation, Errorf(Unauthorized, "send the token of admin.token_file as `Authorization: Bearer TOKEN`")
	}
	name = strings.TrimPrefix(r.URL.Path, prefix)
	operation, ok := e.operations[name]
	switch {
	case !ok:
		return "", operation, Errorf(UnknownOperation, "the running callbackd knows no operation %s: is it another version?", clip(r.URL.Path))
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return name, operation, Errorf(MethodNotAllowed, "every operation is a POST")
	case operation.SocketOnly && e.by != Socket:
		return name, operation, Errorf(Forbidden, "%s is for the control socket in data_dir alone", name)
	}
	return name, operation, nil
}

// clip bounds what is given back of a request.
func clip(text string) string {
	const most = 100
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// knows compares digests: how long it takes tells neither the token nor its length.
func (e *entrance) knows(authorization string) bool {
	token := e.token.Load()
	if token == nil {
		return true
	}
	const scheme = "Bearer "
	if len(authorization) < len(scheme) || !strings.EqualFold(authorization[:len(scheme)], scheme) {
		return false
	}
	digest := sha256.Sum256([]byte(authorization[len(scheme):]))
	return subtle.ConstantTimeCompare(digest[:], token[:]) == 1
}

// mostRequest bounds a request.
const mostRequest = 16 << 20

func (e *entrance) operate(w http.ResponseWriter, r *http.Request, operation Operation) (any, error) {
	request, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostRequest))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, Errorf(TooLarge, "the request is longer than %d bytes: name fewer entries at once", tooLarge.Limit)
	} else if err != nil {
		return nil, Errorf(BadRequest, "read request: %w", err)
	}
	// The time-outs are for the network. What is asked takes its time, and ends when the caller goes.
	controller := http.NewResponseController(w)
	if err := errors.Join(controller.SetReadDeadline(time.Time{}), controller.SetWriteDeadline(time.Time{})); err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(request)) == 0 {
		request = []byte("{}")
	}
	return operation.Do(r.Context(), e.by, request)
}

type failure struct {
	Error string `json:"error"`
	Code  Code   `json:"code"`
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
