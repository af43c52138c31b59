package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"callbackd/internal/handler"
	"callbackd/internal/thingspace/platform"
)

// tail reads the events that the handler writes to its file.
type tail struct {
	path  string
	file  *os.File
	r     *bufio.Reader
	part  string // of a line that is not whole yet
	lines int
}

// next tells of the next event of a message, and passes over those of messages that others had sent. It waits for it, for a delivery
// follows its ack.
func (t *tail) next(ctx context.Context, m platform.Message) string {
	const patience, step = 2 * time.Second, 5 * time.Millisecond
	for range patience / step {
		for line := t.line(); line != ""; line = t.line() {
			if text, ok := describe(line, m); ok {
				return text
			}
		}
		if !sleep(ctx, step) {
			break
		}
	}
	return "not yet"
}

// line is the next whole line, or empty if there is none yet.
func (t *tail) line() string {
	if t.file == nil {
		f, err := os.Open(t.path)
		if err != nil {
			return "" // the handler makes it when it starts
		}
		t.file, t.r = f, bufio.NewReader(f)
	}
	text, err := t.r.ReadString('\n')
	t.part += text
	if err != nil {
		if !errors.Is(err, io.EOF) {
			return err.Error()
		}
		return ""
	}
	line := t.part
	t.part = ""
	t.lines++
	return line
}

func (t *tail) close() {
	if t.file != nil {
		_ = t.file.Close() // it was only read
	}
}

// describe shortens an event of a message to what one reads at a glance. It reports false if the event is of another.
func describe(line string, m platform.Message) (string, bool) {
	var event struct {
		Type, Subject, Service, RequestID string
		Data                              map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(line), &event); err != nil {
		return err.Error(), true
	}
	if event.Service != string(m.Service) || event.RequestID != m.RequestID {
		return "", false
	}
	var members []string
	for _, name := range sorted(event.Data) {
		if !slices.Contains([]string{"kind", "requestId", "devices", "callbackCount", "maxCallbackThreshold"}, name) {
			members = append(members, string(event.Data[name]))
		}
	}
	const longest = 160
	data := strings.Join(members, " ")
	if len(data) > longest {
		data = strings.ToValidUTF8(data[:longest], "") + "..."
	}
	return fmt.Sprintf("%s for %s: %s", strings.TrimPrefix(event.Type, handler.TypePrefix), event.Subject, data), true
}
