//go:build bench

package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"
)

// TestSizing measures what the operator's guide tells of disk and memory: what an entry takes in the database by the size of its message,
// how large the write-ahead log becomes meanwhile, and the most memory that the process had. Each line is a callbackd of its own, with one
// handler that does nothing and the default limits.
func TestSizing(t *testing.T) {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "message\tentries\tconnections\tdisk for an entry\tlargest log\tmemory\t")
	for _, s := range []struct{ size, entries, connections int }{
		{0, 0, 0}, {0, 20_000, 16}, {4 << 10, 20_000, 16}, {16 << 10, 5_000, 16}, {64 << 10, 2_000, 16}, {1 << 20, 200, 16}, {7 << 20, 48, 64}, {0, 20_000, 256},
	} {
		took := measureSize(t, s.size, s.entries, s.connections)
		if s.entries == 0 {
			fmt.Fprintf(w, "idle\t\t\t\t\t%s\t\n", mebibytes(took.memory))
			continue
		}
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%s\t%s\t\n", took.message, s.entries, s.connections, took.disk/int64(s.entries), mebibytes(took.log), mebibytes(took.memory))
	}
	_ = w.Flush()
}

// taken is what a number of entries took.
type taken struct {
	message           int
	disk, log, memory int64
}

func mebibytes(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

func measureSize(t *testing.T, size, entries, connections int) (took taken) {
	t.Helper()
	server := startServer(t, roleReceiver)
	database := filepath.Join(server.dir, "data", "inbox.db")
	empty := fileSize(database) + fileSize(database+"-wal")
	body := padded(size)
	took.message = len(body)
	watching, stop := context.WithCancel(t.Context())
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for tick := time.NewTicker(5 * time.Millisecond); watching.Err() == nil; <-tick.C {
			took.log = max(took.log, fileSize(database+"-wal"))
		}
	})
	var next atomic.Int64
	var senders sync.WaitGroup
	for range connections {
		senders.Go(func() {
			if err := sendNumbered(server.address, body, &next, int64(entries)); err != nil {
				t.Error(err)
			}
		})
	}
	senders.Wait()
	took.memory = server.mostMemory(t)
	stop()
	watcher.Wait()
	server.stop(t)
	if stored := server.entries(t); stored != entries {
		t.Errorf("%d sent and %d stored", entries, stored)
	}
	took.disk = fileSize(database) + fileSize(database+"-wal") - empty
	return took
}

// padded is a message of about a size, at least its own.
func padded(size int) []byte {
	message := benchMessage()
	at := bytes.LastIndex(message, []byte("</"))
	const most = 64 << 10 // of one comment
	var padding []byte
	for missing := size - len(message); missing > len(padding); {
		padding = fmt.Appendf(padding, "<!--%s-->", strings.Repeat("x", min(most, missing-len(padding))))
	}
	return bytes.Join([][]byte{message[:at], padding, message[at:]}, nil)
}

// sendNumbered sends messages, each with a RequestId of its own, until the senders together have sent as many as they are to. One that is
// refused because memory is bounded comes again, as the platform's would.
func sendNumbered(address string, body []byte, next *atomic.Int64, most int64) error {
	request := func(n int64) []byte {
		text := fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: sizing\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		copy(text[bytes.Index(text, []byte(requestIDMark)):], fmt.Sprintf("%08x-0000-4000-8000-%012x", 1, n))
		return text
	}
	var conn net.Conn
	var in *bufio.Reader
	for n := next.Add(1); n <= most; {
		if conn == nil {
			var err error
			if conn, err = net.Dial("tcp", address); err != nil {
				return err
			}
			in = bufio.NewReader(conn)
		}
		status := http.StatusServiceUnavailable
		if _, err := conn.Write(request(n)); err == nil {
			if status, err = readAnswer(in); err != nil {
				status = http.StatusServiceUnavailable // what is refused is not read to its end
			}
		}
		switch status {
		case http.StatusOK:
			n = next.Add(1)
		case http.StatusServiceUnavailable:
			_ = conn.Close()
			conn = nil
			<-time.After(100 * time.Millisecond)
		default:
			return fmt.Errorf("status %d", status)
		}
	}
	if conn == nil {
		return nil
	}
	return conn.Close()
}

// mostMemory is the most that the process had resident.
func (s *benchServer) mostMemory(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var kibibytes int64
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	if _, err := fmt.Sscanf(after, "%d kB", &kibibytes); err != nil {
		t.Fatal(err)
	}
	return kibibytes << 10
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
