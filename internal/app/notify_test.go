package app

import (
	"errors"
	"net"
	"path/filepath"
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
