package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"callbackd/internal/config"
	"callbackd/internal/handler/builtin"
	"callbackd/internal/inbox"
)

// newApp builds a receiver of one service whose log goes to w.
func newApp(t *testing.T, more string, w io.Writer) *App {
	t.Helper()
	return newAppWith(t, more, w, func(*Options) {})
}

func newAppWith(t *testing.T, more string, w io.Writer, edit func(*Options)) *App {
	t.Helper()
	path := filepath.Join(t.TempDir(), "callbackd.yaml")
	text := "data_dir: data\nadmin: {listen: 127.0.0.1:0}\nallow_anonymous: true\nservices: {DeviceUsage: {listen: 127.0.0.1:0}}\n" + more
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Load(path, builtin.Types())
	if err != nil {
		t.Fatal(err)
	}
	log, err := NewLogger(c.Log, w)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Config: c, Log: log, Version: "test"}
	edit(&o)
	a, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var errTest = fmt.Errorf("%w: a sync failed", inbox.ErrBroken)

func TestABrokenInboxEndsTheRunWithItsCause(t *testing.T) {
	t.Parallel()
	a := newApp(t, "", io.Discard)
	a.store.Report(errTest)
	if err := a.Run(t.Context()); !errors.Is(err, inbox.ErrBroken) || !strings.Contains(err.Error(), "a sync failed") {
		t.Errorf("Run returns %v", err)
	}
}

// waitFor calls do when a line that contains text is written.
type waitFor struct {
	text string
	do   func()
}

func (w waitFor) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		w.do()
	}
	return len(p), nil
}

func TestALameDuckOfAnHourEndsWhenTheInboxBreaks(t *testing.T) {
	t.Parallel()
	duck := make(chan struct{})
	a := newApp(t, "shutdown: {lame_duck: 1h}\n", waitFor{"lame duck", func() { close(duck) }})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	<-duck
	a.store.Report(errTest)
	if err := <-done; !errors.Is(err, inbox.ErrBroken) {
		t.Errorf("Run returns %v", err)
	}
}
