package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/go-chi/chi/v5"
	"golang.org/x/sys/unix"
)

// Operation is something that an operator asks of a running callbackd. It reads its request and returns its answer, as JSON.
type Operation func(ctx context.Context, request json.RawMessage) (any, error)

// SocketFile is the name of the control socket within the data directory.
const SocketFile = "control.sock"

// ListenControl opens the control socket in dir for its owner alone. The caller holds the directory's lock, so a socket that is
// there is a dead process's.
func ListenControl(dir string) (net.Listener, error) {
	path := filepath.Join(dir, SocketFile)
	const longest = len(unix.RawSockaddrUnix{}.Path) - 1 // by the kernel, which wants a zero after it
	if len(path) > longest {
		return nil, fmt.Errorf("control socket: %s has %d characters, and a socket's path can have %d: use a shorter data_dir", path, len(path), longest)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// Changing the mode afterwards would leave a moment in which others could connect.
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// Control serves operations on the control socket.
type Control struct {
	listener net.Listener
	http     *http.Server
}

// mostRequest bounds a request to the control socket.
const mostRequest = 16 << 20

// NewControl prepares the server.
func NewControl(l net.Listener, operations map[string]Operation) *Control {
	router := chi.NewRouter()
	for name, operation := range operations {
		router.Post("/v1/"+name, func(w http.ResponseWriter, r *http.Request) { operate(w, r, operation) })
	}
	unknown := func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusNotFound, failure{fmt.Sprintf("the running callbackd knows no operation %s %s: is it another version?", r.Method, r.URL.Path)})
	}
	router.NotFound(unknown)
	router.MethodNotAllowed(unknown)
	return &Control{l, &http.Server{Handler: router, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}}
}

type failure struct {
	Error string `json:"error"`
}

func operate(w http.ResponseWriter, r *http.Request, operation Operation) {
	request, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostRequest))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		answer(w, http.StatusRequestEntityTooLarge, failure{fmt.Sprintf("the request is longer than %d bytes: name fewer entries at once", tooLarge.Limit)})
		return
	case err != nil:
		answer(w, http.StatusBadRequest, failure{"read request: " + err.Error()})
		return
	}
	result, err := operation(r.Context(), request)
	if err != nil {
		answer(w, http.StatusUnprocessableEntity, failure{err.Error()})
		return
	}
	answer(w, http.StatusOK, result)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

// Run serves until ctx ends.
func (c *Control) Run(ctx context.Context) error {
	return run(ctx, c.http, c.listener, "control socket")
}

// Call asks the callbackd that runs on dir for an operation.
func Call(ctx context.Context, dir, name string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	path := filepath.Join(dir, SocketFile)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer client.CloseIdleConnections()
	httpRequest, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://control/v1/"+name, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	response, err := client.Do(httpRequest)
	if err != nil {
		return fmt.Errorf("ask the running callbackd: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var f failure
		if err := json.NewDecoder(response.Body).Decode(&f); err != nil || f.Error == "" {
			return fmt.Errorf("the running callbackd answered %s: is it another version?", response.Status)
		}
		return errors.New(f.Error)
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("read the answer of the running callbackd: %w", err)
	}
	return nil
}
