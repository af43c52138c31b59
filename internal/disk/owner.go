package disk

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Inherit gives what root has made in another user's folder to that user: a command that an operator runs as root, by sudo, would else lock
// out the user that callbackd runs as. For anybody but root it does nothing.
func Inherit(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var folder unix.Stat_t
	if err := unix.Stat(filepath.Dir(path), &folder); err != nil {
		return fmt.Errorf("give %s to the owner of its folder: %w", path, err)
	}
	if err := os.Lchown(path, int(folder.Uid), int(folder.Gid)); err != nil {
		return fmt.Errorf("give %s to the owner of its folder: %w", path, err)
	}
	return nil
}
