package registration_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"callbackd/internal/thingspace/registration"
)

func TestTheStateStandsInTheDataDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	for range 2 {
		openState(t, dir)
	}
	info, err := os.Stat(filepath.Join(dir, "registrations"))
	if err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
		t.Errorf("got %v, %v", info, err)
	}
	file := filepath.Join(dir, "file")
	write(t, file, "")
	if _, err := registration.OpenState(file); err == nil || !strings.Contains(err.Error(), "give data_dir") {
		t.Errorf("a file in the way: %v", err)
	}
}

// TestUpdatesAtOnceLoseNothing: each sees what the one before wrote, whichever State it goes through.
func TestUpdatesAtOnceLoseNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var group sync.WaitGroup
	for range 8 {
		state := openState(t, dir)
		group.Go(func() {
			for range 5 {
				err := state.Update(t.Context(), "count", func(old []byte) ([]byte, error) {
					n, _ := strconv.Atoi(string(old))
					return []byte(strconv.Itoa(n + 1)), nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if got, err := openState(t, dir).Read("count"); string(got) != "40" || err != nil {
		t.Errorf("counted %s, %v", got, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "registrations", "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("left are %v, want the file and its lock", left)
	}
}

// TestAnUpdateThatFailsChangesNothing: what was there stays, to the last byte, and nothing is left behind.
func TestAnUpdateThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	state := openState(t, dir)
	put := func(text string) error {
		return state.Update(t.Context(), "file", func([]byte) ([]byte, error) { return []byte(text), nil })
	}
	if err := put("first"); err != nil {
		t.Fatal(err)
	}
	failed := errors.New("failed")
	for rule, test := range map[string]struct {
		text []byte
		err  error
		want string
	}{
		"a change that fails":          {[]byte("second"), failed, "failed"},
		"a change to more than a file": {[]byte(strings.Repeat("x", 1<<20+1)), nil, "would grow beyond"},
		"no change":                    {nil, nil, ""},
	} {
		err := state.Update(t.Context(), "file", func(old []byte) ([]byte, error) {
			if string(old) != "first" {
				t.Errorf("%s: found %q", rule, old)
			}
			return test.text, test.err
		})
		if (err == nil) != (test.want == "") || !strings.Contains(fmt.Sprint(err), test.want) {
			t.Errorf("%s: %v", rule, err)
		}
	}
	// A folder where the file should be lets the rename fail, which comes late.
	err := state.Update(t.Context(), "other", func([]byte) ([]byte, error) {
		return []byte("x"), os.Mkdir(filepath.Join(dir, "registrations", "other"), 0o700)
	})
	if err == nil || !strings.Contains(err.Error(), "write state: rename") {
		t.Errorf("a folder was replaced: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "registrations", "*.new")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestWaitingForTheStateEndsWithItsContext: and files do not wait for each other.
func TestWaitingForTheStateEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	err := openState(t, dir).Update(t.Context(), "one", func([]byte) ([]byte, error) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("enough"))
		never := func([]byte) ([]byte, error) { t.Error("two changes at once"); return nil, nil }
		if err := openState(t, dir).Update(ctx, "one", never); err == nil || !strings.Contains(err.Error(), "another command holds "+filepath.Join(dir, "registrations", "one.lock")+": enough") {
			t.Errorf("the same file: %v", err)
		}
		return nil, openState(t, dir).Update(ctx, "two", func([]byte) ([]byte, error) { return []byte("x"), nil })
	})
	if err != nil {
		t.Errorf("another file: %v", err)
	}
}

// TestRootLeavesNothingOfItsOwnInTheState: who runs a command by sudo would lock out the user that callbackd runs as.
func TestRootLeavesNothingOfItsOwnInTheState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if os.Getuid() == 0 {
		if err := os.Chown(dir, 12345, 12345); err != nil {
			t.Fatal(err)
		}
	}
	if err := openState(t, dir).Update(t.Context(), "count", func([]byte) ([]byte, error) { return []byte("1"), nil }); err != nil {
		t.Fatal(err)
	}
	owned(t, dir)
}

// owned fails unless everything in a folder is its owner's.
func owned(t *testing.T, dir string) {
	t.Helper()
	owner := func(path string) uint32 {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Uid
	}
	files := 0
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if files++; err == nil && owner(path) != owner(dir) {
			t.Errorf("%s is user %d's", path, owner(path))
		}
		return err
	})
	if err != nil || files < 4 {
		t.Errorf("%d files, %v", files, err)
	}
}
