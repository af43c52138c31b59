package doctor_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/doctor"
	"callbackd/internal/inbox/sqlite"

	"golang.org/x/sys/unix"
)

const one = "services: {DeviceUsage: {listen: '127.0.0.1:0'}}" + tail

func TestTheDiskHasRoomAndSyncsInTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := load(t, dir, head+one)
	examine(t, o).has(t, "disk", doctor.Skipped, "is not there yet")
	if err := os.Mkdir(o.Config.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	o.Config.Inbox.Retention.Size, o.Config.Inbox.Disk, o.Config.Limits.AckBudget = 1<<20, config.Disk{}, time.Hour
	list := examine(t, o)
	list.has(t, "disk", doctor.OK, `^16 syncs took .* at worst; an ack has 1h0m0s$`)
	list.has(t, "disk", doctor.OK, `free; the inbox has 0 B, and may take 1 MiB more$`)
	if left, err := os.ReadDir(o.Config.DataDir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}

	o.Config.Limits.AckBudget = time.Nanosecond
	o.Config.Inbox.Retention.Size = 1 << 60
	list = examine(t, o)
	list.has(t, "disk", doctor.Fail, `^16 syncs took .*; an ack has 1ns$`)
	list.has(t, "disk", doctor.Warn, `free; the inbox has 0 B, and may take [0-9]+ TiB more$`)
	o.Config.DataDir = "/proc" // where nobody makes files
	examine(t, o).has(t, "disk", doctor.Fail, "^write to data_dir: ")
}

func TestRoomOnTheDisk(t *testing.T) {
	t.Parallel()
	const gibi = 1 << 30
	c := config.Inbox{Retention: config.Retention{Size: 10 * gibi}, Disk: config.Disk{WarnFree: 2 * gibi, ShedFree: gibi / 2}}
	for name, test := range map[string]struct {
		free, whole, held int64
		level             doctor.Level
		advice            string
	}{
		"plenty":          {20 * gibi, 40 * gibi, 0, doctor.OK, ""},
		"enough for more": {7 * gibi, 40 * gibi, 6 * gibi, doctor.OK, ""},
		"not for all":     {7 * gibi, 40 * gibi, gibi, doctor.Warn, "inbox.retention.size smaller, such as 3840MiB"},
		"low":             {gibi, 40 * gibi, 10 * gibi, doctor.Warn, "^free space: below 512 MiB"},
		"full":            {gibi / 4, 40 * gibi, 10 * gibi, doctor.Fail, "^free space now: below 512 MiB"},
		"small disk":      {gibi / 4, 2 * gibi, 10 * gibi, doctor.Warn, "below 204.8 MiB"},
	} {
		if f := doctor.JudgeRoom(test.free, test.whole, test.held, c); f.Level != test.level || !regexp.MustCompile(test.advice).MatchString(f.Advice) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestAFileSystemKeepsWhatItIsGiven(t *testing.T) {
	t.Parallel()
	for kind, want := range map[int64]doctor.Level{
		unix.TMPFS_MAGIC: doctor.Fail, unix.OVERLAYFS_SUPER_MAGIC: doctor.Warn, unix.EXT4_SUPER_MAGIC: doctor.OK, unix.XFS_SUPER_MAGIC: doctor.OK,
	} {
		if level, found := doctor.JudgeFileSystem(kind); level != want {
			t.Errorf("%#x: %s %s", kind, level, found)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err == nil && st.Type == unix.TMPFS_MAGIC {
		o := load(t, t.TempDir(), head+one)
		o.Config.DataDir = "/dev/shm"
		examine(t, o).has(t, "disk", doctor.Fail, "in memory")
	}
}

func TestTheDataDirectoryIsForItsUser(t *testing.T) {
	t.Parallel()
	o := load(t, t.TempDir(), head+one)
	examine(t, o).has(t, "permissions", doctor.OK, "not there yet")
	_, stop := serve(t, o.Config)
	stop()
	examine(t, o).fine(t, "permissions")
	file := filepath.Join(o.Config.DataDir, "inbox.db")
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if f := examine(t, o).has(t, "permissions", doctor.Warn, "-rw-r--r--"); f.Subject != file || f.Advice != "chmod o-rwx "+file {
		t.Errorf("%+v", f)
	}
	if os.Geteuid() == 0 { // who else can give a directory away?
		if err := os.Chown(o.Config.DataDir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		examine(t, o).has(t, "permissions", doctor.Warn, "it belongs to user 65534, and doctor runs as user 0")
	}
}

// stored is a data directory with a callback in its inbox.
func stored(t *testing.T) doctor.Options {
	t.Helper()
	o := load(t, t.TempDir(), head+one)
	a, stop := serve(t, o.Config)
	for range 3 {
		post(t, a, callback.DeviceUsage)
	}
	stop()
	return o
}

func TestAnInboxWhoseBytesHaveChangedIsFound(t *testing.T) {
	t.Parallel()
	o := stored(t)
	examine(t, o).fine(t, "store")
	file := filepath.Join(o.Config.DataDir, "inbox.db")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const word = "Envelope"
	changed := bytes.Replace(text, []byte(word), []byte("envelope"), 1)
	if bytes.Equal(changed, text) {
		t.Fatalf("the inbox does not hold %q", word)
	}
	if err := os.WriteFile(file, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	list := examine(t, o)
	list.has(t, "store", doctor.Fail, `^of [0-9]+ entries 1 are not what was stored: [0-9]+$`)

	if err := os.WriteFile(file, text[:len(text)-3*4096-100], 0o600); err != nil { // the disk lost its end
		t.Fatal(err)
	}
	examine(t, o).has(t, "store", doctor.Fail, "damaged|malformed")
	if err := os.WriteFile(file, []byte("no database at all, and longer than a header of SQLite would be, which has a hundred bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	examine(t, o).has(t, "store", doctor.Fail, ".")
}

// TestAPageThatIsLost takes a page of an index away, which no entry is read by.
func TestAPageThatIsLost(t *testing.T) {
	t.Parallel()
	o := stored(t)
	file := filepath.Join(o.Config.DataDir, "inbox.db")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	for at := 2 * page; at < len(text); at += page {
		lost := slices.Concat(text[:at], make([]byte, page), text[at+page:])
		if err := os.WriteFile(file, lost, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := sqlite.OpenReader(t.Context(), o.Config.DataDir)
		if err != nil {
			continue // it is found even sooner
		}
		x, err := r.Examine(t.Context(), 10)
		_ = r.Close()
		if err == nil && len(x.Damage) > 0 {
			examine(t, o).has(t, "store", doctor.Fail, "(?s)^the database is damaged: .*[Pp]age")
			return
		}
	}
	t.Error("no page could be lost without keeping entries from being read")
}

func TestAnInboxInUseIsExamined(t *testing.T) {
	t.Parallel()
	o := load(t, t.TempDir(), head+one)
	examine(t, o).has(t, "store", doctor.OK, "no inbox yet")
	a, _ := serve(t, o.Config)
	post(t, a, callback.DeviceUsage)
	examine(t, o).has(t, "store", doctor.OK, "^the structure is sound, and 1 entries")
	post(t, a, callback.DeviceUsage)
}

// limited starts a process with a limit of open files, and copies what the kernel says of it to where the examination looks.
func limited(t *testing.T, root string, files uint64) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "cat")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = io.Closer(in).Close(), c.Wait() }()
	if err := unix.Prlimit(c.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: files}, nil); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", c.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "proc/self/limits"), string(text))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFilesForEveryConnection(t *testing.T) {
	t.Parallel()
	o := load(t, t.TempDir(), head+one)
	root := t.TempDir()
	o.Kernel = os.DirFS(root)
	limited(t, root, 500)
	if f := examine(t, o).has(t, "open files", doctor.Warn, "^a program started from here may open 500 files, and 1 listeners with 1024 connections each need 128"); !strings.Contains(f.Advice, "LimitNOFILE=128") ||
		!strings.Contains(f.Advice, "limits.connections: 244") {
		t.Errorf("%+v", f)
	}
	limited(t, root, 1400)
	examine(t, o).fine(t, "open files")

	o.Kernel = nil // the limits of this process, which runs a callbackd
	o.Config.Limits.Connections = 1
	serve(t, o.Config)
	examine(t, o).has(t, "open files", doctor.OK, "^the callbackd that runs may open ")
}

func TestMemoryForABurst(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		files map[string]string
		level doctor.Level
		found string
	}{
		"the machine": {map[string]string{"proc/meminfo": "MemTotal:        8388608 kB\n"}, doctor.OK, "may have 8 GiB, by its machine, and keeps to 1 GiB"},
		"a group above": {map[string]string{"proc/meminfo": "MemTotal:        8388608 kB\n", "proc/self/cgroup": "0::/pod/callbackd\n",
			"sys/fs/cgroup/pod/memory.max": "419430400\n", "sys/fs/cgroup/pod/callbackd/memory.max": "max\n"}, doctor.Warn, "may have 400 MiB, by its control group"},
		"version 1": {map[string]string{"proc/self/cgroup": "4:memory:/callbackd\n3:cpu:/\n", "sys/fs/cgroup/memory/callbackd/memory.limit_in_bytes": "134217728\n"},
			doctor.Fail, "may have 128 MiB"},
		"nothing": {nil, doctor.Skipped, "cannot be told"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := load(t, t.TempDir(), head+one)
			root := t.TempDir()
			o.Kernel = os.DirFS(root)
			for path, text := range test.files {
				write(t, filepath.Join(root, path), text)
			}
			f := examine(t, o).has(t, "memory", test.level, test.found)
			if test.level == doctor.Warn && !strings.HasPrefix(f.Advice, "give it 1 GiB, or write limits.in_flight: 100MiB") {
				t.Errorf("%+v", f)
			}
		})
	}
}
