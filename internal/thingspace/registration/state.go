package registration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"callbackd/internal/disk"

	"golang.org/x/sys/unix"
)

// State is what outlives a command: the folder registrations of a data directory, with the log-ins that the platform refused and the
// URLs that were registered from here. Every process may use it at any time, also beside a receiver that works on the same data
// directory: each file has a lock of its own, which is held for one update, and is replaced as a whole.
type State struct {
	dir        string
	iterations int // of the hash of a log-in
}

// OpenState opens the state within a data directory, and creates both if need be.
func OpenState(dataDir string) (*State, error) {
	dir := filepath.Join(dataDir, "registrations")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create %s: %w: it keeps what was registered and which log-ins were refused; "+
			"give data_dir to the user that runs this command", dir, err)
	}
	if err := disk.Inherit(dir); err != nil {
		return nil, fmt.Errorf("create %s: %w", dir, err)
	}
	if err := syncDir(dataDir); err != nil {
		return nil, err
	}
	return &State{dir: dir, iterations: hashIterations}, nil
}

const mostState = 1 << 20 // bytes of a file of the state

// path is where a file of the state stands.
func (s *State) path(name string) string { return filepath.Join(s.dir, name) }

// read returns the content of a file, or nothing if there is none. A file is replaced as a whole, so no lock is needed.
func (s *State) read(name string) ([]byte, error) {
	f, err := os.Open(s.path(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", s.explain(err))
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, mostState+1))
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	if len(text) > mostState {
		return nil, fmt.Errorf("read state: %s is longer than %d bytes, which this program never writes", f.Name(), mostState)
	}
	return text, nil
}

// explain adds what to do where another user, such as root by sudo, left the folder or what is in it.
func (s *State) explain(err error) error {
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	user := os.Geteuid()
	return fmt.Errorf("%w: user %d, who runs this, needs it: run it as the user that owns data_dir, or chown -R %d %s", err, user, user, s.dir)
}

// update hands the content of a file to change, and replaces it with what change returns, if that is not nil. Nobody else changes the
// file in between, however long change takes; waiting for another's change ends with ctx.
func (s *State) update(ctx context.Context, name string, change func(old []byte) ([]byte, error)) (err error) {
	unlock, err := s.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	old, err := s.read(name)
	if err != nil {
		return err
	}
	text, err := change(old)
	if err != nil || text == nil {
		return err
	}
	return s.replace(name, text)
}

// lock waits until nobody else holds the lock of a file. The kernel releases it when the process ends, however it ends.
func (s *State) lock(ctx context.Context, name string) (unlock func(), err error) {
	path := s.path(name) + ".lock"
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state: %w", s.explain(err))
	}
	if err := disk.Inherit(path); err != nil {
		return nil, errors.Join(fmt.Errorf("lock state: %w", err), f.Close())
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return nil, errors.Join(fmt.Errorf("lock state: %s: %w", path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock state: another command holds %s: %w", path, context.Cause(ctx)), f.Close())
		case <-ticker.C:
		}
	}
}

// probe shows that a file could be replaced, for who does beforehand what has to be written down afterwards.
func (s *State) probe(name string) error {
	name += ".probe"
	if err := s.replace(name, make([]byte, 4<<10)); err != nil {
		return err
	}
	return os.Remove(s.path(name))
}

// replace makes text the content of a file. When it returns nil, text survives a loss of power; else the old content does.
func (s *State) replace(name string, text []byte) (err error) {
	if len(text) > mostState {
		return fmt.Errorf("write state: %s would grow beyond %d bytes", s.path(name), mostState)
	}
	f, err := os.CreateTemp(s.dir, name+".*.new")
	if err != nil {
		return fmt.Errorf("write state: %w", s.explain(err))
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(text)
	if err == nil {
		err = disk.Inherit(f.Name())
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err = os.Rename(f.Name(), s.path(name)); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return syncDir(s.dir)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}
