package app

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestSignsOfLifeEndWithLife: a part that is stuck costs the sign, and is logged. It is not parallel: the environment is the process's.
func TestSignsOfLifeEndWithLife(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = manager.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	core, logged := observer.New(zap.ErrorLevel)
	a := &App{log: zap.New(core)}
	a.sign([]string{daemon.SdNotifyWatchdog}, func() error { return errors.New("stuck") })
	if logged.Len() != 1 {
		t.Errorf("%d lines in the log, want 1", logged.Len())
	}
	a.tell("X_NEXT=1")
	text := make([]byte, 1<<10)
	n, err := manager.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(text[:n]); got != "X_NEXT=1" {
		t.Errorf("systemd is told %q of a part that is stuck, want nothing", got)
	}
}

// TestNoSignOfLifeWhileALockIsHeld: a part that does not answer costs the sign, until it does.
func TestNoSignOfLifeWhileALockIsHeld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = manager.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	a := newApp(t, "", io.Discard)
	running(t, a)
	read := func() string {
		t.Helper()
		text := make([]byte, 1<<10)
		n, err := manager.Read(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(text[:n])
	}
	for !strings.HasPrefix(read(), daemon.SdNotifyReady) {
	}
	var lock sync.Mutex
	lock.Lock()
	asked, signed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(signed)
		a.sign([]string{daemon.SdNotifyWatchdog}, func() error {
			close(asked)
			lock.Lock()
			defer lock.Unlock()
			return a.alive()
		})
	}()
	<-asked
	a.tell("X_NEXT=1")
	if got := read(); got != "X_NEXT=1" {
		t.Errorf("systemd is told %q while a lock is held, want nothing", got)
	}
	lock.Unlock()
	if got := read(); !strings.HasPrefix(got, daemon.SdNotifyWatchdog) {
		t.Errorf("systemd is told %q after it, want a sign of life", got)
	}
	<-signed
}
