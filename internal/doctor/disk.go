package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"callbackd/internal/handler"
	"callbackd/internal/inbox/sqlite"

	"golang.org/x/sys/unix"
)

// disk: room for what the inbox may become, a file system that keeps what it is given, and syncs fast enough for the acks.
func (p *patient) disk(context.Context) []Finding {
	dir := p.c.DataDir
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		for ; errors.Is(err, fs.ErrNotExist) && dir != "/"; _, err = os.Stat(dir) {
			dir = filepath.Dir(dir)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return []Finding{{Subject: dir, Level: Fail, Found: err.Error(), Advice: "name a directory of a local disk as data_dir"}}
	}
	findings := append(p.fileSystem(dir, &st), p.room(dir, &st))
	if dir != p.c.DataDir {
		return append(findings, Finding{Subject: "syncs", Level: Skipped, Found: p.c.DataDir + " is not there yet: the first start makes it"})
	}
	return append(findings, p.syncs(dir))
}

func (p *patient) fileSystem(dir string, st *unix.Statfs_t) []Finding {
	const disk = "put data_dir on a local disk: of a container, on a volume"
	f := Finding{Subject: "file system"}
	if err := sqlite.CheckFileSystem(dir); err != nil {
		f.Level, f.Found, f.Advice = Fail, err.Error(), disk
		return []Finding{f}
	}
	f.Level, f.Found = judgeFileSystem(int64(st.Type))
	if f.Level != OK {
		f.Advice = disk
	}
	return []Finding{f}
}

func judgeFileSystem(kind int64) (Level, string) {
	switch kind {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return Fail, "it is in memory: what was acknowledged is lost with the power"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return Warn, "it is a layer of a container: what was acknowledged is lost with the container"
	}
	return OK, "local"
}

// room compares what is free with what the inbox may still take.
func (p *patient) room(dir string, st *unix.Statfs_t) Finding {
	f := Finding{Subject: "room", Level: OK}
	free := int64(st.Bavail) * st.Bsize //nolint:unconvert // its type differs between architectures
	var held int64
	for _, name := range []string{sqlite.File, sqlite.File + "-wal"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
			held += info.Size()
		}
	}
	more := max(int64(p.c.Inbox.Retention.Size)-held, 0)
	f.Found = fmt.Sprintf("%s free; the inbox has %s, and may take %s more", size(free), size(held), size(more))
	switch {
	case free < int64(p.c.Limits.InFlight):
		f.Level, f.Advice = Fail, "free space now: callbackd is about to refuse everything with 503"
	case free < more:
		f.Level, f.Advice = Warn, fmt.Sprintf("make the disk larger, or write inbox.retention.size smaller, such as %s", size((held+free)/2))
	case st.Files > 0 && st.Ffree < 1000:
		f.Level, f.Found, f.Advice = Warn, fmt.Sprintf("%d files can still be made", st.Ffree), "the file system runs out of inodes: remove files that nobody needs"
	}
	return f
}

func size(n int64) string {
	for _, unit := range []handler.Bytes{1 << 30, 1 << 20, 1 << 10} {
		if n >= int64(unit) {
			return (handler.Bytes(n) / unit * unit).String()
		}
	}
	return handler.Bytes(n).String()
}

// syncs measures what every ack waits for.
func (p *patient) syncs(dir string) Finding {
	f := Finding{Subject: "syncs"}
	took, err := measure(dir)
	if err != nil {
		f.Level, f.Found = Fail, err.Error()
		f.Advice = fmt.Sprintf("let the user that runs callbackd write to data_dir; this is user %d", os.Geteuid())
		return f
	}
	slices.Sort(took)
	median, worst := took[len(took)/2], took[len(took)-1]
	budget := p.c.Limits.AckBudget
	f.Level, f.Found = OK, fmt.Sprintf("%d syncs took %s each, and %s at worst; an ack has %s", len(took), median.Round(10*time.Microsecond), worst.Round(10*time.Microsecond), budget)
	const advice = "a faster disk, or one that others use less; network volumes have a class for that"
	switch {
	case median > budget/4:
		f.Level, f.Advice = Fail, "acks will be late, and callbackd refuse with 503: "+advice
	case worst > budget/4, median > budget/30:
		f.Level, f.Advice = Warn, "acks are slow, and late under load: "+advice
	}
	return f
}

// measure writes and syncs a page again and again, in a file that is gone when it is closed, even by a crash.
func measure(dir string) (took []time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".doctor-")
	if err != nil {
		return nil, fmt.Errorf("write to data_dir: %w", err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return nil, fmt.Errorf("write to data_dir: %w", err)
	}
	const rounds = 16
	page := make([]byte, 4096)
	for range rounds {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return nil, fmt.Errorf("write to data_dir: %w", err)
		}
		if err := f.Sync(); err != nil {
			return nil, fmt.Errorf("sync data_dir: %w", err)
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}
