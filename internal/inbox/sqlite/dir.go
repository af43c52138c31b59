package sqlite

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"callbackd/internal/disk"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// ErrInUse is a data directory that another process works on.
var ErrInUse = errors.New("data_dir is in use")

// Lock keeps other processes off a data directory. The kernel releases it when the process ends, however it ends.
type Lock struct{ file *os.File }

// LockDir creates the directory if need be, checks that it is fit for an inbox, and locks it.
func LockDir(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data_dir: %w: create it for the user that runs callbackd, or name another", err)
	}
	if err := CheckFileSystem(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS) {
		return nil, fmt.Errorf("data_dir %s is not writable by user %d, who runs callbackd: give it to that user: %w", dir, os.Geteuid(), err)
	}
	if err != nil {
		return nil, fmt.Errorf("lock data_dir: %w", err)
	}
	if err := disk.Inherit(path); err != nil {
		return nil, errors.Join(fmt.Errorf("lock data_dir: %w", err), f.Close())
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(f, 64))
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is locked by process %s", ErrInUse, dir, pid(holder))
		}
		return nil, fmt.Errorf("lock data_dir: %w", err)
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return nil, errors.Join(fmt.Errorf("lock data_dir: %w", err), f.Close())
	}
	return &Lock{f}, nil
}

func pid(holder []byte) string {
	if n, err := strconv.Atoi(strings.TrimSpace(string(holder))); err == nil {
		return strconv.Itoa(n)
	}
	return "unknown" // it has the lock and did not come to say so yet
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// Unlock lets go of the directory.
func (l *Lock) Unlock() error { return l.file.Close() }

// CheckFileSystem refuses a directory that is on a network file system.
func CheckFileSystem(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look at the file system of data_dir: %w", err)
	}
	return refuseNetwork(dir, &st)
}

// refuseNetwork refuses the file systems on which a database cannot rely on locks and syncs, by the numbers of the kernel.
func refuseNetwork(dir string, st *unix.Statfs_t) error {
	name, ok := map[uint32]string{
		0x6969:     "NFS",
		0x517b:     "SMB",
		0xff534d42: "CIFS",
		0xfe534d42: "SMB2",
		0x564c:     "NCP",
		0x5346414f: "AFS",
		0x6b414653: "AFS",
		0x73757245: "Coda",
		0x00c36400: "Ceph",
		0x01021997: "9p",
		0x0bd00bd0: "Lustre",
		0x7461636f: "OCFS2",
		0x01161970: "GFS2",
		0x47504653: "GPFS",
		0x19830326: "BeeGFS",
		0xaad7aaea: "PanFS",
		0x20030528: "OrangeFS",
	}[uint32(st.Type)]
	if !ok {
		return nil
	}
	return fmt.Errorf("data_dir %s is on a network file system (%s), where an acknowledged callback could be lost: use a local disk", dir, name)
}

// createFile creates the database for its owner alone, for SQLite would let others read it, and warns when what is there is open to all.
// SQLite gives the files beside the database its permissions.
func createFile(path string, log *zap.Logger) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS) {
		return fmt.Errorf("the inbox is not writable by user %d, who runs callbackd: give it to that user: %w", os.Geteuid(), err)
	}
	if err != nil {
		return fmt.Errorf("open inbox: %w", err)
	}
	if err := errors.Join(f.Close(), disk.Inherit(path)); err != nil {
		return fmt.Errorf("open inbox: %w", err)
	}
	const others = 0o007
	for _, p := range []string{filepath.Dir(path), path} {
		info, err := os.Stat(p)
		if err != nil {
			return fmt.Errorf("open inbox: %w", err)
		}
		if mode := info.Mode().Perm(); mode&others != 0 {
			log.Warn("every user of this machine can reach the callbacks, and they hold personal data: take the permission away with `chmod o-rwx`",
				zap.String("path", p), zap.Stringer("mode", mode))
		}
	}
	return nil
}

// dsn names a database file with SQLite's own parameters.
func dsn(path string, parameters ...string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + strings.Join(parameters, "&")
}
