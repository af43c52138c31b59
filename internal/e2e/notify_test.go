package e2e_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/platform"
)

// TestSystemdIsTold listens in place of systemd. Once it hears that the receiver is ready, a callback is acknowledged at the first try.
func TestSystemdIsTold(t *testing.T) {
	r := newCrashReceiver(t)
	path := filepath.Join(filepath.Dir(r.config), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	r.command = func() *exec.Cmd {
		cmd := exec.Command(r.program, "serve", "--config", r.config)
		cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=300000")
		return cmd
	}
	told := make(chan string, 1024)
	go func() {
		defer close(told)
		text := make([]byte, 4<<10)
		for {
			n, err := l.Read(text)
			if err != nil {
				return // the test is over
			}
			told <- string(text[:n])
		}
	}()
	hear := func(want ...string) string {
		t.Helper()
		patience := time.After(20 * time.Second)
		for {
			select {
			case message := <-told:
				if containsAll(message, want) {
					return message
				}
			case <-patience:
				t.Fatalf("systemd is not told %v", want)
			}
		}
	}

	started := make(chan struct{})
	go func() { defer close(started); r.start() }()
	hear("READY=1\n", "STATUS=Receiving 1 services")
	client := &platform.Client{HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	answer, err := client.Post(context.Background(), r.url, platform.NewGenerator(1, credentials).Message(callback.DeviceUsage))
	if err != nil || !answer.Acked() {
		t.Errorf("a callback once systemd was told that the receiver is ready: %+v, %v", answer, err)
	}
	hear("WATCHDOG=1\n")
	hear("WATCHDOG=1\n")
	<-started
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.terminate() }()
	message := hear("STOPPING=1\n")
	_, text, _ := strings.Cut(message, "EXTEND_TIMEOUT_USEC=")
	if µs, err := strconv.Atoi(text); err != nil || time.Duration(µs)*time.Microsecond < 30*time.Second {
		t.Errorf("it asks for %q to stop, less than drain and grace", text)
	}
	<-stopped
}
