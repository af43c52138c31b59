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
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

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

// Control serves an API on the control socket.
type Control struct {
	listener net.Listener
	http     *http.Server
}

// NewControl prepares the server.
func NewControl(l net.Listener, api *API) *Control {
	return &Control{l, &http.Server{Handler: api.onSocket(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: zap.NewStdLog(api.log)}}
}

// Run serves until ctx ends.
func (c *Control) Run(ctx context.Context) error {
	return run(ctx, c.http, func() error { return c.http.Serve(c.listener) }, "control socket")
}

// Call asks the callbackd that runs on dir for an operation. What it answers with a code is an [Error].
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
	httpRequest, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://control"+prefix+name, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	response, err := client.Do(httpRequest)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("the running callbackd ended before it answered: what was asked may be done in part, so look before you ask again: %w", err)
	}
	if err != nil {
		return fmt.Errorf("ask the running callbackd: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var f failure
		if err := json.NewDecoder(response.Body).Decode(&f); err != nil || f.Error == "" || f.Code == "" {
			return fmt.Errorf("the running callbackd answered %s: is it another version?", response.Status)
		}
		return &Error{f.Code, errors.New(f.Error)}
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("read the answer of the running callbackd: %w", err)
	}
	return nil
}
