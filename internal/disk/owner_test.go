package disk

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestWhatRootMakesIsTheFoldersOwners. Where the test is not root, there is nothing that it could have made for another.
func TestWhatRootMakesIsTheFoldersOwners(t *testing.T) {
	t.Parallel()
	dir, owner := t.TempDir(), os.Getuid()
	if owner == 0 {
		owner = 12345
		if err := os.Chown(dir, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Inherit(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; int(uid) != owner {
		t.Errorf("it is user %d's, want %d's", uid, owner)
	}
	if err := Inherit(filepath.Join(dir, "none", "file")); err == nil && os.Getuid() == 0 {
		t.Error("what is not there was given away")
	}
}
