package disk

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Measure asks the file system of dir what it has for those who are not root.
func Measure(dir string) (Room, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Room{}, fmt.Errorf("statfs %s: %w", dir, err)
	}
	block := int64(s.Bsize)
	return Room{Free: int64(s.Bavail) * block, Size: int64(s.Blocks) * block}, nil
}
