package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"callbackd/internal/config"
	watch "callbackd/internal/disk"
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
	var held int64
	for _, name := range []string{sqlite.File, sqlite.File + "-wal"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
			held += info.Size()
		}
	}
	if st.Files > 0 && st.Ffree < 1000 {
		return Finding{Subject: "room", Level: Warn, Found: fmt.Sprintf("%d files can still be made", st.Ffree),
			Advice: "the file system runs out of inodes: remove files that nobody needs"}
	}
	block := int64(st.Bsize)
	return judgeRoom(int64(st.Bavail)*block, int64(st.Blocks)*block, held, p.c.Inbox)
}

// judgeRoom is about bytes: free, of a whole disk, and held by the inbox.
func judgeRoom(free, whole, held int64, c config.Inbox) Finding {
	more := max(int64(c.Retention.Size)-held, 0)
	warn, shed := min(int64(c.Disk.WarnFree), whole/watch.MostWarn), min(int64(c.Disk.ShedFree), whole/watch.MostShed)
	f := Finding{Subject: "room", Level: OK, Found: fmt.Sprintf("%s free; the inbox has %s, and may take %s more", size(free), size(held), size(more))}
	switch {
	case free < shed:
		f.Level, f.Advice = Fail, fmt.Sprintf("free space now: below %s callbackd refuses everything with 503 (inbox.disk.shed_free)", size(shed))
	case free < warn:
		f.Level, f.Advice = Warn, fmt.Sprintf("free space: below %s callbackd refuses everything with 503 (inbox.disk.shed_free)", size(shed))
	case free-shed < more:
		f.Level, f.Advice = Warn, fmt.Sprintf("make the disk larger, or write inbox.retention.size smaller, such as %s", key((held+free-shed)/2))
	}
	return f
}

// size is for eyes, and key for the configuration.
func size(n int64) string {
	const unit = 1 << 10
	text, amount := "B", float64(n)
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if amount < unit {
			break
		}
		text, amount = larger, amount/unit
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", amount), ".0") + " " + text
}

func key(n int64) handler.Bytes {
	for _, unit := range []int64{1 << 30, 1 << 20} {
		if n >= 8*unit {
			return handler.Bytes(n / unit * unit)
		}
	}
	return handler.Bytes(n)
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
