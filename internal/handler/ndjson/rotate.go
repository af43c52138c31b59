package ndjson

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// due reports whether a file of the size is to be rotated before so many bytes more are written at the time.
func (h *file) due(now time.Time, size int64, more int) bool {
	if size == 0 {
		return false
	}
	return h.Rotate.Size > 0 && size+int64(more) > int64(h.Rotate.Size) || h.Rotate.Age > 0 && !part(h.last, h.Rotate.Age).Equal(part(now, h.Rotate.Age))
}

// part is when the part of time that t is in began. The time of the last write then tells, after a restart too, whether a file is of the
// present part.
func part(t time.Time, age time.Duration) time.Time { return t.UTC().Truncate(age) }

// rotate renames the file. When that cannot be done lines go on into it: better a large file than none. h.disk is held.
func (h *file) rotate() bool {
	err := h.rename()
	h.tell(stepRotate, err)
	if err != nil {
		return false
	}
	h.metrics.rotations.Inc()
	h.look()
	return true
}

func (h *file) rename() error {
	if h.Fsync != Never { // else its end could be missing when it is compressed already
		if err := h.f.Sync(); err != nil {
			return fmt.Errorf("sync before rotation: %w", err)
		}
		h.unsynced = false
	}
	name, err := h.free(time.Now())
	if err != nil {
		return fmt.Errorf("find a name to rotate to: %w", err)
	}
	if err := os.Rename(h.Path, name); err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	return nil
}

// stamp is the time in the name of a rotated file. Such names sort by it.
const stamp = "20060102T150405.000Z"

// name is the path of the file that was rotated at a time.
func (h *file) name(at time.Time) string {
	ext := filepath.Ext(h.Path)
	return strings.TrimSuffix(h.Path, ext) + "-" + at.UTC().Format(stamp) + ext
}

// free is a name of about the time that no file has, compressed or not.
func (h *file) free(at time.Time) (string, error) {
	for {
		name := h.name(at)
		_, plain := os.Lstat(name)
		_, zipped := os.Lstat(name + zipExt)
		if errors.Is(plain, os.ErrNotExist) && errors.Is(zipped, os.ErrNotExist) {
			return name, nil
		}
		for _, err := range []error{plain, zipped} {
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return "", err
			}
		}
		at = at.Add(time.Millisecond)
	}
}

// tend starts what goes on beside the writing, until Close.
func (h *file) tend() {
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	if h.Fsync == Interval {
		h.tending.Go(func() { h.syncEvery(ctx) })
	}
	if h.Rotate.Age > 0 {
		h.tending.Go(func() { h.rotateIdle(ctx) })
	}
	if h.Rotate != (Rotate{}) {
		h.look()
		h.tending.Go(func() { h.tidyAgain(ctx) })
	}
}

// look has the rotated files looked at.
func (h *file) look() {
	select {
	case h.rotated <- struct{}{}:
	default:
	}
}

func (h *file) syncEvery(ctx context.Context) {
	tick := time.NewTicker(h.FsyncInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h.sync()
		}
	}
}

// sync forces to the disk what was written. Lines are written meanwhile, for the next time.
func (h *file) sync() {
	h.disk.Lock()
	f, unsynced := h.f, h.unsynced
	h.unsynced = false
	h.disk.Unlock()
	if f == nil || !unsynced {
		return
	}
	err := f.Sync()
	if errors.Is(err, os.ErrClosed) {
		return // it was rotated, and synced for that
	}
	h.tell(stepSync, err)
	if err != nil {
		h.disk.Lock()
		h.unsynced = true
		h.disk.Unlock()
	}
}

// rotateIdle rotates at the end of each part of time a file that nothing is written to: whoever takes rotated files does not wait.
func (h *file) rotateIdle(ctx context.Context) {
	for {
		timer := time.NewTimer(time.Until(part(time.Now(), h.Rotate.Age).Add(h.Rotate.Age)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		h.disk.Lock()
		size, err := h.follow()
		h.tell(stepWrite, err)
		if err == nil && h.due(time.Now(), size, 0) && h.rotate() {
			_, err = h.follow()
			h.tell(stepWrite, err)
		}
		h.disk.Unlock()
	}
}

// tidyEvery is how often files that have become too old are looked for, and what failed is tried again.
const tidyEvery = 10 * time.Minute

func (h *file) tidyAgain(ctx context.Context) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-h.rotated:
		}
		h.tidy(ctx, time.Now())
	}
}

// tidy removes the rotated files that are not to be kept, and compresses the others. How much room they take is looked at when all are
// compressed that can be.
func (h *file) tidy(ctx context.Context, now time.Time) {
	h.tell(stepRemove, h.remove(now, Keep{Files: h.Keep.Files, Age: h.Keep.Age}))
	if !h.Gzip {
		h.tell(stepRemove, h.remove(now, h.Keep))
		return
	}
	err := h.compress(ctx)
	if ctx.Err() != nil {
		return
	}
	h.tell(stepCompress, err)
	h.tell(stepRemove, h.remove(now, h.Keep))
}

// archived is a rotated file.
type archived struct {
	path   string
	at     time.Time // of the rotation
	size   int64
	suffix string // of the name: empty, zipExt or halfExt
}

const (
	zipExt  = ".gz"
	halfExt = ".gz.part" // of a file that is being compressed
)

// archive lists the rotated files, the newest first. A name that this package would not have given is nobody's business here.
func (h *file) archive() ([]archived, error) {
	dir := filepath.Dir(h.Path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list rotated files: %w", err)
	}
	var files []archived
	for _, e := range entries {
		at, suffix, ok := h.parse(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // somebody has taken it
		} else if err != nil {
			return nil, fmt.Errorf("list rotated files: %w", err)
		}
		files = append(files, archived{filepath.Join(dir, e.Name()), at, info.Size(), suffix})
	}
	slices.SortFunc(files, func(a, b archived) int { return b.at.Compare(a.at) })
	return files, nil
}

// parse reads the name of a rotated file.
func (h *file) parse(name string) (at time.Time, suffix string, ok bool) {
	ext := filepath.Ext(h.Path)
	rest, ok := strings.CutPrefix(name, strings.TrimSuffix(filepath.Base(h.Path), ext)+"-")
	if !ok || len(rest) < len(stamp) {
		return at, "", false
	}
	at, err := time.Parse(stamp, rest[:len(stamp)])
	suffix, ok = strings.CutPrefix(rest[len(stamp):], ext)
	return at, suffix, err == nil && ok && slices.Contains([]string{"", zipExt, halfExt}, suffix)
}

// remove removes the rotated files that are not to be kept, and what is left of a compression that a crash has ended.
func (h *file) remove(now time.Time, keep Keep) error {
	files, err := h.archive()
	if err != nil {
		return err
	}
	var failed []error
	var size int64
	count := 0
	for _, a := range files {
		if a.suffix != halfExt {
			size += a.size
			count++
		}
		if a.suffix == halfExt || keep.Files > 0 && count > keep.Files || keep.Age > 0 && now.Sub(a.at) > keep.Age || keep.Size > 0 && size > int64(keep.Size) {
			if err := os.Remove(a.path); err != nil && !errors.Is(err, os.ErrNotExist) {
				failed = append(failed, fmt.Errorf("remove a rotated file: %w", err))
			}
		}
	}
	return errors.Join(failed...)
}

// compress compresses the rotated files.
func (h *file) compress(ctx context.Context) error {
	files, err := h.archive()
	failed := []error{err}
	for _, a := range files {
		if a.suffix == "" && ctx.Err() == nil {
			failed = append(failed, compress(ctx, a.path))
		}
	}
	return errors.Join(failed...)
}

// compress replaces a file by its compressed form, which stands under its name when it is whole and on disk: what a crash leaves is done
// again from the beginning.
func compress(ctx context.Context, path string) (err error) {
	target := path + zipExt
	if _, err := os.Lstat(target); err == nil {
		return finish(path) // a crash came before the end
	}
	from, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	to, err := os.OpenFile(path+halfExt, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	err = pack(ctx, to, from, info)
	err = errors.Join(err, to.Close())
	if err == nil {
		err = os.Rename(to.Name(), target)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("compress %s: %w", path, err), os.Remove(to.Name()))
	}
	return finish(path)
}

// pack writes the compressed form, and has it on disk.
func pack(ctx context.Context, to *os.File, from io.Reader, info os.FileInfo) error {
	z := gzip.NewWriter(to)
	z.ModTime = info.ModTime()
	if _, err := io.Copy(z, reader{ctx, from}); err != nil {
		return err
	}
	return errors.Join(z.Close(), to.Chmod(info.Mode().Perm()), os.Chtimes(to.Name(), info.ModTime(), info.ModTime()), to.Sync())
}

// finish removes the plain file once the name of the compressed one is on disk.
func finish(path string) error {
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return fmt.Errorf("compress: sync folder: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	return nil
}

// reader reads until its context ends.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
