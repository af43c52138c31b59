package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"callbackd/internal/admin"
)

type number struct {
	N int `json:"n"`
}

var operations = map[string]admin.Operation{
	"double": {Do: func(_ context.Context, _ admin.Caller, request json.RawMessage) (any, error) {
		var n number
		if err := json.Unmarshal(request, &n); err != nil {
			return nil, admin.Errorf(admin.BadRequest, "read request: %w", err)
		}
		return number{2 * n.N}, nil
	}},
	"fail": {Do: func(context.Context, admin.Caller, json.RawMessage) (any, error) {
		return nil, admin.Errorf(admin.Invalid, "entry 7 is not in quarantine")
	}},
	"conflict": {Do: func(context.Context, admin.Caller, json.RawMessage) (any, error) {
		return nil, admin.Errorf(admin.Conflict, "another has it")
	}},
	"break": {Do: func(context.Context, admin.Caller, json.RawMessage) (any, error) {
		return nil, errors.New("the disk is gone")
	}},
	"whoami": {Do: func(_ context.Context, by admin.Caller, _ json.RawMessage) (any, error) {
		return map[string]admin.Caller{"by": by}, nil
	}},
	"own": {Do: func(context.Context, admin.Caller, json.RawMessage) (any, error) { return number{1}, nil }, SocketOnly: true},
	// It lasts until the caller goes.
	"last": {Do: func(ctx context.Context, _ admin.Caller, _ json.RawMessage) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}},
}

// control runs the control socket in a new folder until the test ends.
func control(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	l, err := admin.ListenControl(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := admin.NewControl(l, admin.NewAPI(operations, nil))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, admin.SocketFile)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	return dir
}

func TestCall(t *testing.T) {
	t.Parallel()
	dir := control(t)
	for _, tt := range []struct {
		name, operation string
		request         any
		want            string // of the error
	}{
		{"an operation that succeeds", "double", number{21}, ""},
		{"one that fails", "fail", number{}, "entry 7 is not in quarantine"},
		{"one that nobody knows", "explode", number{}, "no operation /api/v1/explode: is it another version?"},
		{"a request that it does not understand", "double", "x", "read request"},
		{"a request that is too long", "double", strings.Repeat("x", 17<<20), "longer than 16777216 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var answer number
			err := admin.Call(t.Context(), dir, tt.operation, tt.request, &answer)
			switch {
			case tt.want == "" && (err != nil || answer.N != 42):
				t.Errorf("%+v, %v; want 42", answer, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestCallWithoutAServer(t *testing.T) {
	t.Parallel()
	err := admin.Call(t.Context(), t.TempDir(), "double", number{}, &number{})
	if err == nil || !strings.Contains(err.Error(), "ask the running callbackd") {
		t.Errorf("error %v", err)
	}
}

// TestCallWhoseServerEnds: what was asked may have been done, and whoever asked has to know that.
func TestCallWhoseServerEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := admin.ListenControl(dir)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	if err := admin.Call(t.Context(), dir, "double", number{}, &number{}); err == nil || !strings.Contains(err.Error(), "may be done in part") {
		t.Errorf("error %v", err)
	}
}

// TestCallOfSomethingElse has another program behind the socket.
func TestCallOfSomethingElse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"an error that is none of ours", http.StatusTeapot, "short and stout", "418 I'm a teapot: is it another version?"},
		{"an answer that is none of ours", http.StatusOK, "hello", "read the answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l, err := admin.ListenControl(dir)
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			})}
			done := make(chan error, 1)
			go func() { done <- server.Serve(l) }()
			t.Cleanup(func() { _ = server.Close(); <-done })
			if err := admin.Call(t.Context(), dir, "double", number{}, &number{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestTheSocketIsItsOwners looks at the mode.
func TestTheSocketIsItsOwners(t *testing.T) {
	t.Parallel()
	info, err := os.Stat(filepath.Join(control(t), admin.SocketFile))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %s, want srw-------", info.Mode())
	}
}

// TestADeadSocketIsReplaced leaves a socket behind as kill -9 does.
func TestADeadSocketIsReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dead, err := net.Listen("unix", filepath.Join(dir, admin.SocketFile))
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = dead.Close()
	l, err := admin.ListenControl(dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

func TestListenControlSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	long := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	occupied := t.TempDir()
	if err := os.MkdirAll(filepath.Join(occupied, admin.SocketFile, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, dir, want string }{
		{"a path that is too long", long, "use a shorter data_dir"},
		{"no such folder", filepath.Join(t.TempDir(), "missing"), "control socket"},
		{"a folder in its place", occupied, "control socket"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, err := admin.ListenControl(tt.dir)
			if err == nil {
				_ = l.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}
