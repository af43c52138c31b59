package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/platform"
)

// TestARestartOnPassedSocketsFailsNoPost holds the sockets as systemd does, restarts a loaded receiver again and again, and has every post
// answered by an ack, also those that are sent while no receiver runs. A post has failed if its sender was told anything but an ack: an
// error of his HTTP client, or another status. The client is net/http's, which by itself sends again only what it has not begun to send.
func TestARestartOnPassedSocketsFailsNoPost(t *testing.T) {
	const restarts, enough, waiting = 4, 100, 6
	r := newCrashReceiver(t)
	r.passSockets()
	load := &steadyLoad{t: t, url: r.url, acked: make(map[string]bool)}
	r.start()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var sending sync.WaitGroup
	for range 4 {
		sending.Go(func() { load.send(ctx, &http.Transport{}) })
		sending.Go(func() { load.send(ctx, &http.Transport{DisableKeepAlives: true}) })
	}
	for range restarts {
		load.goOn(enough)
		r.terminate()
		until(t, "posts wait in the kernel's queue", func() bool { return load.unanswered.Load() >= waiting })
		r.start()
	}
	load.goOn(enough)
	stop()
	sending.Wait()
	t.Logf("%d posts over %d restarts; the longest took %s", len(load.acked), restarts, load.longest)
	r.settle()
	r.terminate()
	r.check(load.acked)
}

// passSockets binds the receiver's sockets here, and has it started with them.
func (r *crashReceiver) passSockets() {
	r.t.Helper()
	var files []*os.File
	for _, address := range []string{r.url, r.admin} {
		l, err := net.Listen("tcp", strings.Trim(strings.TrimPrefix(address, "http://"), "/"))
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { _ = l.Close() })
		file, err := l.(*net.TCPListener).File()
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { _ = file.Close() })
		files = append(files, file)
	}
	r.command = func() *exec.Cmd {
		// The process's own number is in LISTEN_PID, which its parent cannot know beforehand.
		cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" serve --config "$1"`, r.program, r.config)
		cmd.Env = append(os.Environ(), "LISTEN_FDS=2", "LISTEN_FDNAMES=DeviceUsage:admin")
		cmd.ExtraFiles = files
		return cmd
	}
}

// steadyLoad are senders that go on whatever becomes of the receiver.
type steadyLoad struct {
	t                *testing.T
	url              string
	unanswered, acks atomic.Int64

	mu      sync.Mutex
	acked   map[string]bool
	longest time.Duration
}

// goOn waits for n acks more.
func (l *steadyLoad) goOn(n int64) {
	l.t.Helper()
	from := l.acks.Load()
	until(l.t, fmt.Sprintf("%d posts more are acknowledged", n), func() bool { return l.acks.Load() >= from+n })
}

func (l *steadyLoad) send(ctx context.Context, transport *http.Transport) {
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	rate := time.NewTicker(5 * time.Millisecond)
	defer rate.Stop()
	for {
		select {
		case <-rate.C:
		case <-ctx.Done():
			return
		}
		id := fmt.Sprintf("request-%d", crashMessages.Add(1))
		message, err := platform.Fill(platform.NewGenerator(crashMessages.Add(1), credentials).Message(callback.DeviceUsage), credentials, id)
		if err != nil {
			l.t.Errorf("fill: %v", err)
			return
		}
		l.unanswered.Add(1)
		from := time.Now()
		err = post(client, l.url, message)
		l.unanswered.Add(-1)
		if err != nil {
			l.t.Errorf("%s, after %s: %v", id, time.Since(from), err)
			continue
		}
		l.acks.Add(1)
		l.mu.Lock()
		l.acked[id], l.longest = true, max(l.longest, time.Since(from))
		l.mu.Unlock()
	}
}

func post(client *http.Client, url string, message []byte) error {
	response, err := client.Post(url, "text/xml; charset=utf-8", bytes.NewReader(message))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", response.StatusCode, body)
	}
	return err
}
