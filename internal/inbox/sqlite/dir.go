package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"callbackd/internal/inbox"

	"golang.org/x/sys/unix"
)

// ErrInUse is a data directory that another process works on.
var ErrInUse = errors.New("data_dir is in use")

// Lock keeps other processes off a data directory. The kernel releases it when the process ends, however it ends.
type Lock struct{ file *os.File }

// LockDir creates the directory if need be, checks that it is fit for an inbox, and locks it.
func LockDir(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data_dir: %w", err)
	}
	if err := checkFileSystem(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data_dir: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(f, 64))
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is locked by process %s", ErrInUse, dir, strings.TrimSpace(string(holder)))
		}
		return nil, fmt.Errorf("lock data_dir: %w", err)
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return nil, errors.Join(fmt.Errorf("lock data_dir: %w", err), f.Close())
	}
	return &Lock{f}, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// Unlock lets go of the directory.
func (l *Lock) Unlock() error { return l.file.Close() }

// networkFileSystems are those on which a database cannot rely on locks and syncs.
var networkFileSystems = map[int64]string{
	0x6969:     "NFS",
	0x517b:     "SMB",
	0xff534d42: "CIFS",
	0xfe534d42: "SMB2",
	0x5346414f: "AFS",
	0x00c36400: "Ceph",
	0x01021997: "9p",
	0x0bd00bd0: "Lustre",
	0x7461636f: "OCFS2",
	0x47504653: "GPFS",
}

func checkFileSystem(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look at the file system of data_dir: %w", err)
	}
	if name, ok := networkFileSystems[int64(st.Type)&0xffffffff]; ok {
		return fmt.Errorf("data_dir %s is on a network file system (%s), where an acknowledged callback could be lost: use a local disk", dir, name)
	}
	return nil
}

// dsn names a database file with SQLite's own parameters.
func dsn(path string, parameters ...string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + strings.Join(parameters, "&")
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	return errors.Join(out.Sync(), out.Close())
}

// holdDeliveries marks a database that is nobody's yet.
func holdDeliveries(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", dsn(path, "_pragma=journal_mode(DELETE)", "_pragma=synchronous(FULL)"))
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `INSERT INTO meta (key, value) VALUES ('deliveries_held', '1')
		ON CONFLICT (key) DO UPDATE SET value = '1'`); err != nil {
		return fmt.Errorf("%w: %w", inbox.ErrBroken, err)
	}
	return nil
}
