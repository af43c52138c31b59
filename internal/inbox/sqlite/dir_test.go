package sqlite

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"
)

// lockedDir names, for a process of this test program, the directory that it is to lock until it is killed.
const lockedDir = "CALLBACKD_TEST_LOCK_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockedDir); dir != "" {
		os.Exit(holdLock(dir))
	}
	os.Exit(m.Run())
}

func holdLock(dir string) int {
	lock, err := LockDir(dir)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer lock.Unlock()
	fmt.Println("locked")
	_, _ = os.Stdin.Read(make([]byte, 1)) // until killed
	return 0
}

func TestASecondProcessIsRefusedUntilTheFirstIsGone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	holder := exec.CommandContext(t.Context(), os.Args[0])
	holder.Env = append(os.Environ(), lockedDir+"="+dir)
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "locked\n" {
		t.Fatalf("the other process said %q, %v", line, err)
	}
	_, err = LockDir(dir)
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("%s is locked by process %d", dir, holder.Process.Pid)) {
		t.Errorf("got %v, want the process %d named", err, holder.Process.Pid)
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait() // it was killed
	lock, err := LockDir(dir)
	if err != nil {
		t.Fatalf("after the crash of its holder: %v", err)
	}
	if _, err := LockDir(dir); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("a second lock in one process: %v", err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	if lock, err = LockDir(dir); err != nil {
		t.Fatalf("after it was unlocked: %v", err)
	}
	_ = lock.Unlock()
}

func TestTheLocksHolderMayBeUnknown(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"123\n": "123", "": "unknown", "\x1b[31m": "unknown"} {
		if got := pid([]byte(text)); got != want {
			t.Errorf("%q names %q, want %q", text, got, want)
		}
	}
}

func TestADataDirIsForItsOwnerAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	lock, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	s := newStore(t, dated, func(o *Options) { o.Dir = dir })
	mustAppend(t, s, testArrival("1"))
	for name, want := range map[string]os.FileMode{"": 0o700, "lock": 0o600, File: 0o600, File + "-wal": 0o600, File + "-shm": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q has mode %v, %v; want %v", name, info.Mode().Perm(), err, want)
		}
	}
}

func TestAnOpenDataDirDrawsAWarning(t *testing.T) {
	t.Parallel()
	for mode, warnings := range map[os.FileMode]int{0o700: 0, 0o750: 0, 0o755: 1, 0o777: 1} {
		var logs *observer.ObservedLogs
		dir := t.TempDir()
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		newStore(t, func(o *Options) { o.Dir = dir }, observed(&logs))
		got := logs.FilterMessageSnippet("chmod o-rwx").All()
		if len(got) != warnings || warnings > 0 && (got[0].Level != zapcore.WarnLevel || got[0].ContextMap()["path"] != dir) {
			t.Errorf("mode %v draws %v, want %d warnings", mode, got, warnings)
		}
	}
}

func TestAnUnfitDataDirIsRefusedInPlainWords(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ dir, want string }{
		"a file":         {file, "create data_dir"},
		"below a file":   {filepath.Join(file, "data"), "create data_dir"},
		"not writable":   {"/proc/self", "/proc/self"}, // for root as well
		"a pseudo place": {"/proc/self/none", "create data_dir"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := LockDir(c.dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestNetworkFileSystemsAreRefusedByName(t *testing.T) {
	t.Parallel()
	for magic, name := range map[uint32]string{
		unix.NFS_SUPER_MAGIC: "NFS", unix.SMB_SUPER_MAGIC: "SMB", unix.CIFS_SUPER_MAGIC: "CIFS", unix.SMB2_SUPER_MAGIC: "SMB2",
		unix.CEPH_SUPER_MAGIC: "Ceph", unix.V9FS_MAGIC: "9p", unix.AFS_SUPER_MAGIC: "AFS", unix.AFS_FS_MAGIC: "AFS",
		unix.CODA_SUPER_MAGIC: "Coda", unix.NCP_SUPER_MAGIC: "NCP", unix.OCFS2_SUPER_MAGIC: "OCFS2",
	} {
		st := unix.Statfs_t{}
		st.Type = int64(magic)
		if err := refuseNetwork("/data", &st); err == nil || !strings.Contains(err.Error(), "data_dir /data is on a network file system ("+name+")") {
			t.Errorf("%#x: got %v, want %s named", magic, err, name)
		}
		st.Type = int64(int32(magic)) // as 32-bit kernels give it
		if err := refuseNetwork("/data", &st); err == nil {
			t.Errorf("%#x is let through when its sign is extended", magic)
		}
	}
	for _, magic := range []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC} {
		st := unix.Statfs_t{}
		st.Type = magic
		if err := refuseNetwork("/data", &st); err != nil {
			t.Errorf("%#x: %v", magic, err)
		}
	}
}

// TestRootLeavesNothingOfItsOwnInTheDataDirectory: who restores a backup by sudo would lock out the user that callbackd runs as.
func TestRootLeavesNothingOfItsOwnInTheDataDirectory(t *testing.T) {
	t.Parallel()
	_, backup := backedUp(t)
	dir := t.TempDir()
	if os.Getuid() == 0 {
		if err := os.Chown(dir, 12345, 12345); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	for range 2 { // the second keeps what the first has put there
		if _, _, err := Restore(t.Context(), backup, dir, stamp); err != nil {
			t.Fatal(err)
		}
	}
	s := openStore(t, testOptions(t, func(o *Options) { o.Dir = dir }))
	mustAppend(t, s, testArrival("1", "log"))
	owner := func(path string) uint32 {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Uid
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, path := range files {
		if owner(path) != owner(dir) {
			t.Errorf("%s is user %d's", path, owner(path))
		}
	}
}
