// Package ndjson is the handler type "ndjson": it appends each callback to a file, one JSON event a line.
//
// The promise: a delivery is done when its line is on disk, whole. A line that could not be written whole is taken back, and one
// that a crash cut short is taken back at the next start, for its delivery will be made again.
package ndjson

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"callbackd/internal/handler"
)

// file appends events. It is safe for concurrent use.
type file struct {
	path string

	mu sync.Mutex
	f  *os.File
}

func (h *file) Handle(_ context.Context, d *handler.Delivery) error {
	line, err := json.Marshal(d.Event())
	if err != nil {
		return handler.Permanent(fmt.Errorf("marshal event: %w", err))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.follow(); err != nil {
		return err
	}
	return h.append(append(line, '\n'))
}

// append writes a whole line and syncs it, or leaves the file as it was.
func (h *file) append(line []byte) error {
	size, err := h.f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("append event: %w", err)
	}
	_, err = h.f.Write(line)
	if err == nil {
		err = h.f.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("append event: %w", err), h.f.Truncate(size))
	}
	return nil
}

// follow opens the file anew when something else stands under its name: it was rotated.
func (h *file) follow() error {
	at, err := os.Stat(h.path)
	if err == nil {
		var opened os.FileInfo
		if opened, err = h.f.Stat(); err == nil && os.SameFile(at, opened) {
			return nil
		}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look at the file: %w", err)
	}
	f, err := open(h.path)
	if err != nil {
		return err
	}
	old := h.f
	h.f = f
	return old.Close()
}

func (h *file) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.f.Close()
}

// open opens the file for appending, for its owner alone if it is new: it holds personal data.
func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open events file: %w", err)
	}
	if err := mend(f); err != nil {
		return nil, errors.Join(fmt.Errorf("open events file: %w", err), f.Close())
	}
	return f, nil
}

// lineStart begins every line that this handler writes.
const lineStart = `{"specversion":`

// mend takes back a line that was cut short. Anything else at the end of the file is not ours: it only gets its line end.
func mend(f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return err
	}
	const longestLine = 64 << 20
	tail := make([]byte, 0, 4096)
	for at := size; at > 0 && len(tail) < longestLine; {
		step := min(at, 64<<10)
		at -= step
		part := make([]byte, step)
		if _, err := f.ReadAt(part, at); err != nil {
			return err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			tail = append(part[i+1:len(part):len(part)], tail...)
			break
		}
		tail = append(part, tail...)
	}
	switch {
	case len(tail) == 0:
		return nil
	case bytes.HasPrefix(tail, []byte(lineStart)), bytes.HasPrefix([]byte(lineStart), tail):
		return f.Truncate(size - int64(len(tail)))
	}
	_, err = f.Write([]byte{'\n'})
	return err
}
