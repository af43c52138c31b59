// Package ndjson is the handler type "ndjson": it appends each callback to a file, one JSON event a line.
//
//	Handle --+                                      +--> done
//	Handle --+--> batch: one write, one sync, whole +--> done
//	                |
//	            too large, or of another day --> rename --> compress --> remove the oldest
//
// The promise: a delivery is done when its line is on disk, whole. What could not be written whole is taken back, and a line that a
// crash cut short is taken back when the file is next opened, for its delivery will be made again. Nothing in the file that this
// package did not write is ever removed, and no file that it did not rename.
//
// The limits: where fsync is not always, a power cut takes lines whose deliveries are done; one process writes a file, which a lock sees
// to; a line cut short in a file that was renamed since stays there; a disk that hangs cannot be interrupted.
package ndjson

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"callbackd/internal/handler"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// file appends events. It is safe for concurrent use.
type file struct {
	Config
	log     *zap.Logger
	metrics *metrics

	handler.Readiness // whether lines can be written

	disk     sync.Mutex // held while a batch is written
	f        *os.File   // nil once closed
	last     time.Time  // when it was written to
	unsynced bool       // it has lines that Interval has to sync
	gather   sync.Mutex // guards next and what is in it
	next     *batch

	rotated chan struct{} // there may be a file to compress or to remove
	stop    context.CancelFunc
	tending sync.WaitGroup
	told    sync.Mutex // guards failing
	failing map[step]error
}

// batch is what is written and synced at once: all the lines that came while the batch before was on its way.
type batch struct {
	lines []byte
	done  chan struct{}
	err   error // once done is closed
}

func (h *file) Handle(ctx context.Context, d *handler.Delivery) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	line, err := d.Event().JSON()
	if err != nil {
		return err
	}
	return h.append(ctx, append(line, '\n'))
}

// append adds a line to the next batch. The first to do so writes the batch, when the disk is free, and the others wait for it.
func (h *file) append(ctx context.Context, line []byte) error {
	h.gather.Lock()
	first := h.next == nil
	if first {
		h.next = &batch{done: make(chan struct{})}
	}
	b := h.next
	b.lines = append(b.lines, line...)
	h.gather.Unlock()
	if first {
		h.flush(b)
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err() // the line may be written all the same, and the delivery is made again: at least once
	}
}

func (h *file) flush(b *batch) {
	h.disk.Lock()
	defer h.disk.Unlock()
	h.gather.Lock()
	h.next = nil
	h.gather.Unlock()
	b.err = h.write(b.lines)
	close(b.done)
}

// write appends whole lines and syncs them, or leaves the file as it was. h.disk is held.
func (h *file) write(lines []byte) (err error) {
	defer func() { h.tell(stepWrite, err) }()
	size, err := h.follow()
	if err != nil {
		return err
	}
	if h.due(time.Now(), size, len(lines)) && h.rotate() {
		if size, err = h.follow(); err != nil {
			return err
		}
	}
	_, err = h.f.Write(lines)
	if err == nil && h.Fsync == Always {
		err = h.f.Sync()
	}
	if err != nil {
		return h.takeBack(err, size)
	}
	h.last, h.unsynced = time.Now(), h.Fsync == Interval
	return nil
}

// takeBack leaves the file as it was before a write that failed.
func (h *file) takeBack(cause error, size int64) error {
	err := fmt.Errorf("append event: %w: %s", cause, remedy(cause))
	if failed := h.f.Truncate(size); failed != nil {
		return fmt.Errorf("%w; what there is of it could not be taken back: %w", err, failed)
	}
	return err
}

func remedy(err error) string {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return "make room there, or bound what is kept with rotate and keep"
	}
	return "see to the file system and to the rights on the file"
}

// follow opens the file anew when something else stands under its name: it was rotated. It returns the file's size. h.disk is held.
func (h *file) follow() (size int64, err error) {
	if h.f == nil {
		return 0, fmt.Errorf("append event: %w", os.ErrClosed)
	}
	at, err := os.Stat(h.Path)
	if err == nil {
		var opened os.FileInfo
		if opened, err = h.f.Stat(); err == nil && os.SameFile(at, opened) {
			return opened.Size(), nil
		}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("look at events file: %w", err)
	}
	old := h.f
	if err := h.reopen(); err != nil {
		return 0, err
	}
	if h.unsynced { // of the one before
		h.tell(stepSync, old.Sync())
		h.unsynced = false
	}
	_ = old.Close() // there is nothing left to write
	info, err := h.f.Stat()
	if err != nil {
		return 0, fmt.Errorf("look at events file: %w", err)
	}
	return info.Size(), nil
}

// reopen opens what stands under the path. h.disk is held, or h is new.
func (h *file) reopen() error {
	f, last, err := open(h.Path)
	if err != nil {
		return err
	}
	h.f, h.last = f, last
	return nil
}

// Close implements [handler.Handler]. What is being compressed is given up, and compressed after the next start.
func (h *file) Close() error {
	h.stop()
	h.tending.Wait()
	h.disk.Lock()
	defer h.disk.Unlock()
	if h.f == nil {
		return nil
	}
	var err error
	if h.unsynced {
		err = h.f.Sync()
	}
	err = errors.Join(err, h.f.Close())
	h.f = nil
	h.metrics.unregister()
	return err
}

// open opens the file for appending, for its owner alone if it is new: it holds personal data. It returns when the file was last written to.
func open(path string) (_ *os.File, last time.Time, err error) {
	// Without O_NONBLOCK, a pipe under that name would stop the program; regular files do not know the difference.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND|unix.O_NONBLOCK, 0o600)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, last, fmt.Errorf("path: there is no folder %s: create it, for the user that callbackd runs as", filepath.Dir(path))
	case errors.Is(err, unix.EISDIR):
		return nil, last, fmt.Errorf("path: %s is a folder: name a file in it", path)
	case errors.Is(err, os.ErrPermission):
		return nil, last, fmt.Errorf("path: %w: the user that callbackd runs as must be able to write it", err)
	case err != nil:
		return nil, last, fmt.Errorf("path: %w", err)
	}
	if last, err = prepare(f); err != nil {
		return nil, last, errors.Join(fmt.Errorf("path: %s: %w", path, err), f.Close())
	}
	return f, last, nil
}

// prepare makes sure that the file is one to write lines to, is nobody else's, stands under its name after a crash, and ends in a whole
// line.
func prepare(f *os.File) (last time.Time, err error) {
	info, err := f.Stat()
	if err != nil {
		return last, err
	}
	if !info.Mode().IsRegular() {
		return last, errors.New("is no regular file, so nothing in it can be made durable")
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return last, errors.New("another handler or program writes it: give each a file of its own")
		}
		return last, fmt.Errorf("lock: %w", err)
	}
	if err := syncFolder(filepath.Dir(f.Name())); err != nil {
		return last, fmt.Errorf("sync folder: %w", err)
	}
	return info.ModTime(), mend(f)
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// lineStart begins every line that this package writes.
const lineStart = `{"specversion":`

// mend takes back a line that was cut short. Anything else at the end of the file is not ours: it only gets its line end.
func mend(f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	from, err := lastLine(f, size)
	if err != nil || from == size {
		return err
	}
	start := make([]byte, min(int64(len(lineStart)), size-from))
	if _, err := f.ReadAt(start, from); err != nil {
		return err
	}
	if bytes.HasPrefix([]byte(lineStart), start) {
		return f.Truncate(from)
	}
	_, err = f.Write([]byte{'\n'})
	return err
}

// lastLine is where the last line begins, at size if the file ends in a line end. It looks back only so far as a line of ours can
// reach.
func lastLine(f *os.File, size int64) (int64, error) {
	const step, longest = 64 << 10, 256 << 20
	part := make([]byte, step)
	for end := size; end > max(0, size-longest); {
		from := max(0, end-step)
		if _, err := f.ReadAt(part[:end-from], from); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part[:end-from], '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return 0, nil
}
